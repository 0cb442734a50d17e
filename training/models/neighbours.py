"""Item-to-item models that keep a few neighbours of each item: what `linear` is where a matrix of all pairs
would be too large.

A score is a sum over the history, every reason a term, as there; an item that is nobody's neighbour in the
history has no score. Nothing here costs anything for the items that are not neighbours. How the neighbours
are fitted: `training.fit.neighbours`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from training.bundle import Component
from training.models.arrays import Float32, Int32
from training.models.eligible import Eligible, Retrieved, eligible_best
from training.models.linear import ItemModel, LinearItemModel, decay_of, history_of
from training.models.ragged import Items, Ragged, places_of, ranges, splits


@dataclass(frozen=True, slots=True)
class NeighbourModel:
    """Attributes:
    neighbours: of n items each one's neighbours, ascending.
    weights: float32 [m]; what having met the item says of each neighbour.
    half_life: events after which an event counts half.
    history: newest events that count.
    """

    neighbours: Items
    weights: Float32
    half_life: float
    history: int

    @classmethod
    def of(cls, neighbours: Items, weights: Float32, half_life: float) -> Self:
        """With as much history as matters at this half-life."""
        return cls(neighbours, weights, half_life, history_of(half_life))

    def scores(self, histories: Items) -> Float32:
        """float32 [b, n], 0 where nothing of the history has the item for a neighbour."""
        found = np.zeros((len(histories), len(self.neighbours)), np.float32)
        items, score = self._added_up(histories)
        found[items.row, items.values] = score
        return found

    def scores_of(self, histories: Items, candidates: Items) -> Float32:
        """float32 [m]: `scores` of each history's candidates alone."""
        items, score = self._added_up(histories)
        if not len(items.values):
            return np.zeros(len(candidates.values), np.float32)
        key, wanted = items.row << 32 | items.values, candidates.row << 32 | candidates.values
        place = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        return np.where(key[place] == wanted, score[place], np.float32(0))

    def best(self, histories: Items, eligible: Eligible, k: int) -> Retrieved:
        """The `k` highest scores of each history, best first, ties by lower index."""
        items, score = self._added_up(histories)
        return eligible_best(items, score, eligible, k)

    def similar(self, items: Int32, eligible: Eligible, k: int) -> Retrieved:
        """The neighbours of each item [b] that it speaks for, best first."""
        places, row_splits = places_of(self.neighbours.row_splits, items)
        weights = self.weights[places]
        found = Ragged(self.neighbours.values[places], row_splits)
        evident = weights > 0
        row = splits(np.bincount(found.row[evident], minlength=len(items)))
        return eligible_best(Ragged(found.values[evident], row), weights[evident], eligible, k)

    def contributions(self, history: Int32, items: Int32) -> Float32:
        """float32 [c, h]: how much each event of the history (as passed) adds; rows sum to `scores_of`."""
        recent = history[-self.history :]
        distinct, of = np.unique(items, return_inverse=True)
        terms = np.zeros((len(distinct), len(history)), np.float32)
        if not len(distinct):
            return terms
        places, event_splits = places_of(self.neighbours.row_splits, recent)
        event = np.repeat(np.arange(len(recent)), np.diff(event_splits))
        found = self.neighbours.values[places]
        place = np.minimum(np.searchsorted(distinct, found), len(distinct) - 1)
        hit = distinct[place] == found
        weight = self.weights[places[hit]] * decay_of(len(recent), self.half_life)[event[hit]]
        terms[place[hit], len(history) - len(recent) + event[hit]] = weight
        return terms[of]

    def _added_up(self, histories: Items) -> tuple[Items, Float32]:
        """Every item that an event of each history has for a neighbour, ascending, and its score."""
        ends = histories.row_splits[1:]
        starts = np.maximum(ends - self.history, histories.row_splits[:-1])
        lengths = ends - starts
        at = ranges(starts, ends)
        events, lag = histories.values[at], (np.repeat(ends, lengths) - 1 - at).astype(np.float32)
        decay = np.exp2(-lag / np.float32(self.half_life))
        places, event_splits = places_of(self.neighbours.row_splits, events)
        of_event = np.diff(event_splits)
        row = np.repeat(np.repeat(np.arange(len(histories)), lengths), of_event)
        key = row << 32 | self.neighbours.values[places]
        terms = self.weights[places] * np.repeat(decay, of_event)
        order = np.argsort(key, kind="stable")
        key = key[order]
        first = np.flatnonzero(np.diff(key, prepend=-1))
        score = np.add.reduceat(terms[order], first) if len(first) else np.empty(0, np.float32)
        key = key[first]
        items = Ragged(
            (key & 0xFFFFFFFF).astype(np.int32), splits(np.bincount(key >> 32, minlength=len(histories)))
        )
        return items, score.astype(np.float32, copy=False)

    def faded(self, half_life: float, history: int) -> Self:
        return replace(self, half_life=half_life, history=history)

    def to_component(self) -> Component:
        return Component(
            {"half_life": self.half_life, "history": self.history},
            {
                "row_splits": self.neighbours.row_splits,
                "item": self.neighbours.values,
                "weights": self.weights,
            },
        )

    @classmethod
    def from_component(cls, component: Component) -> Self:
        arrays = component.arrays
        return cls(Ragged(arrays["item"], arrays["row_splits"]), arrays["weights"], **component.settings)


class ItemToItem:
    """An item-to-item model as a bundle keeps it: dense, or of a few neighbours."""

    MAKES = ItemModel

    @staticmethod
    def from_component(component: Component) -> ItemModel:
        kind = NeighbourModel if "item" in component.arrays else LinearItemModel
        return kind.from_component(component)
