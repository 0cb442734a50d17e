"""Which terms of a score may be said, and in what words.

A sentence has to be true by itself and carried by the score. A term that raises the score is not enough: the
ranker's curves may bend anyhow, so an item can gain by being unpopular, and must then not be called popular.
Does not belong here: how terms are computed (`attribution`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serving.types import Float32, History
from training.models.linear import LinearItemModel

FAMILY = {
    "ease": "together",
    "ease_long": "together",
    "sequential": "next",
    "two_tower": "taste",
    "popularity_week": "popular",
    "popularity_all": "popular",
    "mean_value": "valued",
    "age": "new",
}
"""Ranker feature → what it is evidence of. A feature without a family is shown but never said."""

PLAIN = {
    "taste": "It is close to what you have been choosing lately.",
    "popular": "Many people have chosen it.",
    "valued": "People who chose it rated it highly.",
    "new": "It is new here.",
}

ANCHOR_FEATURE = {"together": "ease", "next": "sequential"}
"""Family → the feature that is a sum over the history's events, one of which a sentence may name."""

CHOSEN = {
    "together": "People who chose {anchor}, as you did, also chose {item}.",
    "next": "After {anchor}, which you chose, people often go on to {item}.",
}
RATED = {
    "together": "People who chose {anchor}, which you rated highly, also chose {item}.",
    "next": "After {anchor}, which you rated highly, people often go on to {item}.",
}
"""The rating is told of the user, never given as the cause: the models know that an item was chosen, not what
was thought of it."""

OUTER = 1 / 3
"""Share of a curve's knots beyond which a value counts as high or low. Knots are quantiles of what retrieval
brought in training, so "many people" means many for an item that could stand here."""

LOW = frozenset({"age"})
"""Features whose plain sentence speaks of low values; the others' speak of high ones."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """An event of the history, by its position, and what it adds to its model's score of an item."""

    position: int
    term: float


def raising(names: Sequence[str], contributions: Float32) -> tuple[str, ...]:
    """The families whose terms together raise the score, strongest first.

    Args:
        names: of the features.
        contributions: float32 [f], theirs.
    """
    share: dict[str, float] = {}
    for name, contribution in zip(names, contributions.tolist(), strict=True):
        if name in FAMILY:
            share[FAMILY[name]] = share.get(FAMILY[name], 0.0) + contribution
    return tuple(sorted((family for family in share if share[family] > 0), key=lambda f: -share[f]))


def strongest_anchor(model: LinearItemModel, history: History, item: int) -> Anchor | None:
    """The event that raises the item's score in this model most; None where none does. An event of the item
    itself is no reason for it."""
    terms = model.contributions(history.item_index, np.array([item], np.int32))[0]
    terms[history.item_index == item] = 0
    if not len(terms) or not terms.max() > 0:
        return None
    position = int(terms.argmax())
    return Anchor(position, float(terms[position]))


def rated_highly(history: History, position: int) -> bool:
    """Whether the event's value is at least the history's mean. Values that never differ are no ratings."""
    value = history.value.astype(np.float64)
    return bool(value.min() < value.max() and value[position] >= value.mean())


def outer(knots: Float32) -> tuple[float, float]:
    """Below the first a value is low, above the second it is high."""
    low, high = np.quantile(knots, [OUTER, 1 - OUTER])
    return float(low), float(high)
