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
    """What the user has met or, where that may come again, disliked."""
    if query.seen == "allow":
        return query.disliked
    history = query.history.item_index
    return np.concatenate((history, query.met)) if len(query.met) else history


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
        self._latest: tuple[Query, Mask] | None = None

    def mask(self, query: Query) -> Mask:
        """bool [n_items], read-only; made once for all sources of a request, which ask with the same object.

        Raises:
            InvalidFilter: the query's filter does not fit the catalogue.
        """
        if self._latest is None or self._latest[0] is not query:
            self._latest = query, self._mask(query)
        return self._latest[1]

    def _mask(self, query: Query) -> Mask:
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
        return _absent(batch.item_index, self._hidden(query))


class ExpressionFilter:
    """Drops candidates that do not match the query's filter expression, delisted ones always."""

    name = "expression"

    def __init__(self, rules: CatalogueFilter) -> None:
        self._rules = rules

    def enabled(self, query: Query) -> bool:
        return query.filter is not None or self._rules.narrows

    def keep(self, query: Query, batch: CandidateBatch) -> Mask:
        return self._rules.mask(query.filter)[batch.item_index]


class DuplicateFilter:
    """Keeps the first of several rows of an item."""

    name = "duplicate"

    def enabled(self, query: Query) -> bool:
        return True

    def keep(self, query: Query, batch: CandidateBatch) -> Mask:
        order = np.argsort(batch.item_index, kind="stable")
        ascending = batch.item_index[order]
        keep = np.ones(len(batch), np.bool_)
        keep[order[1:]] = ascending[1:] != ascending[:-1]
        return keep


def _absent(index: Int32, hidden: Int32) -> Mask:
    """Which of `index` are not in `hidden`: by a table of the catalogue's low end, in a tenth of the time of
    np.isin. A negative `hidden` names no item."""
    size = 1 + int(max(index.max(initial=-1), hidden.max(initial=-1)))
    shown = np.ones(size, np.bool_)
    shown[hidden[hidden >= 0]] = False
    return shown[index]
