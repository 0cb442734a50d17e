"""Closed-form item-to-item models: a score is a weighted sum of rows of one matrix, every reason a term.

- EASE: Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019. What goes together.
- Sequential: ridge regression (Hoerl & Kennard 1970) from recency-weighted prefixes of a history to what
  came after them. What comes next.

Their matrices are dense, items x items; above `DENSE_ITEMS` items it is `neighbours` that says the same.

Both are scored from a history whose events fade with age, which is worth more than any weight tuning:
EASE on MovieLens-100K gains a third in NDCG@10 over counting all events alike. How the matrices are fitted:
`training.fit.linear`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol, Self

import numpy as np

from training.bundle import Component
from training.models.arrays import Float32, Int32
from training.models.eligible import Eligible, Retrieved, top_k
from training.models.ragged import Items

DENSE_ITEMS = 20_000
"""Items up to which a matrix of all pairs is fitted: three n x n float32 matrices (4.8 GB here), and time
that grows with n³ (minutes, on two cores)."""

WHOLE_ROWS = 10_000
"""Catalogue size up to which whole rows are read although a few hundred items are asked for: they lie in one
piece. 150 events, 450 items: 0.08 against 0.24 ms of 1,700 items, 0.46 against 0.57 of 10,000."""

_FADED = 10
"""Half-lives after which an event is left out: it weighs less than a thousandth of the newest."""


class ItemModel(Protocol):
    """What says of a history's items how well any item follows."""

    def scores(self, histories: Items) -> Float32:
        """float32 [b, n]."""
        ...

    def scores_of(self, histories: Items, candidates: Items) -> Float32:
        """float32 [m]: `scores` of each history's candidates alone."""
        ...

    def similar(self, items: Int32, eligible: Eligible, k: int) -> Retrieved:
        """What each item [b] speaks for, with a weight above 0, best first."""
        ...

    def contributions(self, history: Int32, items: Int32) -> Float32:
        """float32 [c, h]: how much each event of the history (as passed) adds; rows sum to `scores_of`."""
        ...

    def faded(self, half_life: float, history: int) -> Self:
        """The same weights over a history that fades otherwise."""
        ...

    def to_component(self) -> Component: ...


def history_of(half_life: float) -> int:
    """Events that matter at this half-life."""
    return max(1, round(_FADED * half_life))


def decay_of(events: int, half_life: float) -> Float32:
    """float32 [events]: the weight of each, oldest first."""
    lag = np.arange(events - 1, -1, -1, dtype=np.float32)
    decay: Float32 = np.exp2(-lag / np.float32(half_life))
    return decay


@dataclass(frozen=True, slots=True)
class LinearItemModel:
    """Attributes:
    weights: float32 [n, n]; row h says what having met item h says of every item.
    half_life: events after which an event counts half.
    history: newest events that count.
    """

    weights: Float32
    half_life: float
    history: int

    def __post_init__(self) -> None:
        # Rows are read by flat position, and factorisations tend to come column by column.
        object.__setattr__(self, "weights", np.ascontiguousarray(self.weights))

    @classmethod
    def of(cls, weights: Float32, half_life: float) -> Self:
        """With as much history as matters at this half-life."""
        return cls(weights, half_life, history_of(half_life))

    def scores(self, histories: Items) -> Float32:
        """float32 [b, n]: for each history the sum over lags of 0.5 ** (lag / half_life) · weights[item at
        that lag].

        0.03 ms for 60 events and 1,682 items, on one thread.
        """
        found = np.empty((len(histories), self.weights.shape[1]), np.float32)
        for row, history in enumerate(histories):
            recent, decay = self._recent(history)
            np.dot(decay, self.weights.take(recent, axis=0), out=found[row])
        return found

    def scores_of(self, histories: Items, candidates: Items) -> Float32:
        """float32 [m]: `scores` of each history's candidates alone; where the catalogue is large, the rest is
        not scored."""
        if self.weights.shape[1] <= WHOLE_ROWS:
            return self.scores(histories)[candidates.row, candidates.values]
        found = np.empty(len(candidates.values), np.float32)
        for history, items, at in zip(histories, candidates, pairwise(candidates.row_splits), strict=True):
            recent, decay = self._recent(history)
            found[slice(*at)] = decay @ self._block(recent, items)
        return found

    def similar(self, items: Int32, eligible: Eligible, k: int) -> Retrieved:
        weights = self.weights[items]
        return top_k(eligible.of(np.where(weights > 0, weights, np.float32(-np.inf))), k)

    def faded(self, half_life: float, history: int) -> Self:
        return replace(self, half_life=half_life, history=history)

    def contributions(self, history: Int32, items: Int32) -> Float32:
        """float32 [c, h]: how much each event of the history (as passed) adds; rows sum to `scores_of`."""
        recent, decay = self._recent(history)
        terms = np.zeros((len(items), len(history)), np.float32)
        terms[:, len(history) - len(recent) :] = (decay[:, None] * self._block(recent, items)).T
        return terms

    def _recent(self, history: Int32) -> tuple[Int32, Float32]:
        """The events that count, oldest first, and their weights."""
        recent = history[-self.history :]
        return recent, decay_of(len(recent), self.half_life)

    def _block(self, rows: Int32, columns: Int32) -> Float32:
        """weights[rows][:, columns], by flat positions: half the time of np.ix_."""
        first = rows.astype(np.intp) * self.weights.shape[1]
        block: Float32 = self.weights.ravel().take(first[:, None] + columns)
        return block

    def to_component(self) -> Component:
        return Component({"half_life": self.half_life, "history": self.history}, {"weights": self.weights})

    @classmethod
    def from_component(cls, component: Component) -> Self:
        return cls(component.arrays["weights"], **component.settings)
