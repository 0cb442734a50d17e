"""The editor's picks: the items that were rated best, with a weight each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from training.bundle import Component
from training.dataset import Dataset
from training.spec import Options


@dataclass(frozen=True, slots=True)
class Picks:
    """Attributes:
    item_index: int32 [k], best first.
    weight: float32 [k].
    """

    item_index: NDArray[np.int32]
    weight: NDArray[np.float32]

    class Settings(Options):
        items: PositiveInt

    @staticmethod
    def fit(data: Dataset, events: NDArray[np.int64], options: Settings) -> Component:
        """The items with the best mean value among those of three events or more; `events` may be learned
        from, the others of `data` are kept for the figures."""
        known = data.subset(events)
        count = np.bincount(known.item_index, minlength=data.n_items)
        total = np.bincount(known.item_index, known.value, minlength=data.n_items)
        mean = np.divide(total, count, out=np.full(data.n_items, -np.inf), where=count >= 3)
        best = np.argsort(-mean, kind="stable")[: options.items]
        best = best[np.isfinite(mean[best])]
        return Component({}, {"item_index": best.astype(np.int32), "weight": mean[best].astype(np.float32)})

    @classmethod
    def from_component(cls, component: Component) -> Self:
        return cls(component.arrays["item_index"], component.arrays["weight"])
