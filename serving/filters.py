"""What may be shown for a query: `Eligibility`, which sources choose within so that a narrow filter still
fills the answer, and the filter stages, which check what comes out.

Does not belong here: how a filter expression is read (`serving.expressions`), and any preference between
items that may be shown.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from serving.expressions import CatalogueFilter
from serving.types import CandidateBatch, Int32, Mask, Query

Hidden = Callable[[Query], Int32]
"""Items a query must not be answered with; a negative index names no item."""


def seen(query: Query) -> Int32:
    return query.history.item_index


def excluded(query: Query) -> Int32:
    return query.exclude


def named(query: Query) -> Int32:
    """An item is not similar to itself."""
    return query.items


class Eligibility:
    """What may be returned for a query: matches its filter and is not hidden. Sources get `mask` injected
    and choose among eligible items only, so that a narrow filter still yields `count` items.

    `Eligibility(rules, seen, excluded)` for recommendations, `Eligibility(rules, named, excluded)` for
    similar items.
    """

    def __init__(self, rules: CatalogueFilter, *hidden: Hidden) -> None:
        self._rules = rules
        self._hidden = hidden

    def mask(self, query: Query) -> Mask:
        """bool [n_items], read-only.

        Raises:
            InvalidFilter: the query's filter does not fit the catalogue.
        """
        mask = self._rules.mask(query.filter).copy()
        for hidden in self._hidden:
            index = hidden(query)
            mask[index[index >= 0]] = False
        mask.setflags(write=False)
        return mask


class HiddenFilter:
    """Drops candidates that the query hides: `HiddenFilter("seen", seen)`."""

    def __init__(self, name: str, hidden: Hidden) -> None:
        self.name = name
        self._hidden = hidden

    def enabled(self, query: Query) -> bool:
        return len(self._hidden(query)) > 0

    def keep(self, query: Query, batch: CandidateBatch) -> Mask:
        return np.isin(batch.item_index, self._hidden(query), invert=True)


class ExpressionFilter:
    """Drops candidates that do not match the query's filter expression."""

    name = "expression"

    def __init__(self, rules: CatalogueFilter) -> None:
        self._rules = rules

    def enabled(self, query: Query) -> bool:
        return query.filter is not None

    def keep(self, query: Query, batch: CandidateBatch) -> Mask:
        return self._rules.mask(query.filter)[batch.item_index]


class DuplicateFilter:
    """Keeps the first of several rows of an item."""

    name = "duplicate"

    def enabled(self, query: Query) -> bool:
        return True

    def keep(self, query: Query, batch: CandidateBatch) -> Mask:
        keep = np.zeros(len(batch), np.bool_)
        keep[np.unique(batch.item_index, return_index=True)[1]] = True
        return keep
