"""What an editor picks: the items that were rated best, with a weight each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from training.bundle import Component


@dataclass(frozen=True, slots=True)
class Picks:
    """Attributes:
    item_index: int32 [k], best first.
    weight: float32 [k].
    """

    item_index: NDArray[np.int32]
    weight: NDArray[np.float32]

    @classmethod
    def fit(cls, data: Any, events: NDArray[np.int64], options: dict[str, Any]) -> Self:
        """Of the items with the best mean value, three events or more.

        Args:
            data: `training.dataset.Dataset`.
            events: those that may be learned from.
            options: `items`, how many to pick.
        """
        known = data.subset(events)
        count = np.bincount(known.item_index, minlength=data.n_items)
        total = np.bincount(known.item_index, known.value, minlength=data.n_items)
        mean = np.divide(total, count, out=np.full(data.n_items, -np.inf), where=count >= 3)
        best = np.argsort(-mean, kind="stable")[: options["items"]]
        best = best[np.isfinite(mean[best])]
        return cls(best.astype(np.int32), mean[best].astype(np.float32))

    def to_component(self) -> Component:
        return Component({}, {"item_index": self.item_index, "weight": self.weight})

    @classmethod
    def from_component(cls, component: Component) -> Self:
        return cls(component.arrays["item_index"], component.arrays["weight"])
