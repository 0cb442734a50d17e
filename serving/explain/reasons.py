"""Which terms of a score may be said, and in what words.

A sentence has to be true by itself and carried by the score. A term that raises the score is not enough: the
ranker's curves may bend anyhow, so an item can gain by being unpopular, and must then not be called popular.
Does not belong here: how terms are computed (`attribution`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.types import Float32, History, Int32, Mask
from training.feedback import Feedback, above
from training.models.linear import ItemModel
from training.past import newest

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
class Anchors:
    """For each of c items the event of the history that raises its score in one model most.

    Attributes:
        position: intp [c], in the history.
        term: float32 [c], what that event adds; 0 where none raises the score.
    """

    position: NDArray[np.intp]
    term: Float32


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


def strongest_anchors(model: ItemModel, history: History, items: Int32, nameable: Mask) -> Anchors:
    """An event of the item itself is no reason for it. nameable: bool [h], the events to choose among."""
    if not len(history):
        return Anchors(np.zeros(len(items), np.intp), np.zeros(len(items), np.float32))
    terms = model.contributions(history.item_index, items)
    terms[(items[:, None] == history.item_index) | ~nameable] = 0
    position = terms.argmax(axis=1)
    return Anchors(position, np.maximum(terms[np.arange(len(items)), position], 0))


def nameable(feedback: Feedback, history: History, disliked: Int32) -> Mask:
    """bool [h]: whether a reason may call an event's item chosen. Not where the user thought little of it, by
    the newest value that it was given."""
    items, last = newest(history.item_index, history.value)
    thought_of = items[above(last, feedback.low)]
    may: Mask = np.isin(history.item_index, thought_of) & ~np.isin(history.item_index, disliked)
    return may


def rated_highly(history: History) -> Mask:
    """bool [h]: whether an event's value is at least the history's mean. Values that never differ are no
    ratings."""
    value = history.value.astype(np.float64)
    if not len(value) or value.min() == value.max():
        return np.zeros(len(value), np.bool_)
    high: Mask = value >= value.mean()
    return high


def outer(knots: Float32) -> tuple[float, float]:
    """Below the first a value is low, above the second it is high."""
    low, high = np.quantile(knots, [OUTER, 1 - OUTER])
    return float(low), float(high)
