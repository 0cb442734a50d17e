"""What rankers learn from: lists of retrieved candidates, and the places where their features are told apart.

Does not belong here: who makes the lists (`training.candidates`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.models.arrays import Float32, Mask

TAIL = (0.97, 0.99, 0.997)
"""Quantiles with a knot beside the even ones: there the best candidates are told apart."""


@dataclass(frozen=True, slots=True)
class RankingLists:
    """What was retrieved for e held-out events, of those whose item was among it.

    Attributes:
        names: of the features.
        features: float32 [e, c, f]; column 0 is the item taken, the others are candidates of the same event.
        present: bool [e, c], False where a short list is filled up.
    """

    names: tuple[str, ...]
    features: Float32
    present: Mask

    def rows(self) -> Float32:
        """float32 [m, f]: all that are present.

        Raises:
            ValueError: no list, or a feature that is not finite.
        """
        rows: Float32 = self.features[self.present]
        if not len(self.features) or not np.isfinite(rows).all():
            raise ValueError("the ranker needs a list, and finite features; check the retrieval before it")
        return rows


def quantile_knots(column: Float32, knots: int, tail: Sequence[float] = TAIL) -> Float32:
    """float32 [k], ascending and distinct, at least two: the column's quantiles, ends included, and its
    tail's."""
    found = np.unique(np.quantile(column, [*np.linspace(0, 1, knots), *tail]).astype(np.float32))
    return found if len(found) > 1 else np.array([found[0] - 1, found[0] + 1], np.float32)
