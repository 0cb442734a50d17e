"""Sentences for the terms of a score. One function says which term a sentence may speak for, one says it.

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
    "popularity_month": "popular",
    "popularity_all": "popular",
    "mean_value": "valued",
    "age": "new",
    "idle": "new",
}
"""Ranker feature → what it is evidence of. A feature without a family is shown but never said."""

PLAIN = {
    "taste": "It is close to what you have been choosing lately.",
    "popular": "Many people are choosing it.",
    "valued": "People who chose it valued it highly.",
    "new": "It is recent in the catalogue.",
}

ANCHORED = {
    "together": "Because you {did} {anchor}, and people who chose it also chose {item}.",
    "next": "Because you {did} {anchor}, and people often go on from it to {item}.",
}


@dataclass(frozen=True, slots=True)
class Anchors:
    """The items of the history behind one anchored family."""

    model: LinearItemModel
    family: str


def families(names: Sequence[str], contributions: Float32) -> dict[str, float]:
    """Family → its share of the score: the sum of its features' contributions [f]."""
    share: dict[str, float] = {}
    for name, contribution in zip(names, contributions.tolist(), strict=True):
        family = FAMILY.get(name)
        if family is not None:
            share[family] = share.get(family, 0.0) + contribution
    return share


def spoken_for(share: dict[str, float], anchored: frozenset[str]) -> str | None:
    """The family a sentence may name: the strongest that raises the score and has an anchor, else the
    strongest that raises it, else none. A reason with a name in it tells more than one without."""
    raising = {family: value for family, value in share.items() if value > 0}
    named = {family: value for family, value in raising.items() if family in anchored}
    best = named or raising
    return max(best, key=lambda family: best[family]) if best else None


def strongest_anchor(model: LinearItemModel, history: History, item: int) -> int | None:
    """Position in the history of the event that raises the item's score in this model most; None where no
    event raises it."""
    terms = model.contributions(history.item_index, np.array([item], np.int32))[0]
    if not len(terms) or terms.max() <= 0:
        return None
    return int(terms.argmax())


def did(history: History, position: int) -> str:
    """How the user met the anchor: "rated ... highly" only where values differ and this one is high."""
    value = history.value[position]
    rated = history.value.min() < history.value.max()
    return "highly rated" if rated and value >= history.value.mean() else "chose"
