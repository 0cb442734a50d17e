"""What may be shown for a query: `Eligibility`, which sources choose within so that a narrow filter still
fills the answer, and the filter stages, which check what comes out.

Does not belong here: how a filter expression is read (`serving.expressions`), and any preference between
items that may be shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serving.batch import Candidates, Queries
from serving.expressions import CatalogueFilter
from serving.types import Int32, Mask, Query
from training.models.retrieval import Eligible

ELIGIBLE = "eligible"
"""What a batch remembers its eligible items by."""


def hidden(query: Query) -> Int32:
    """Items that the request excludes, and those that the user has met or, where that may come again,
    disliked."""
    if query.seen == "allow":
        return np.concatenate((query.exclude, query.disliked))
    return np.concatenate((query.exclude, query.history.item_index, query.met))


def not_itself(query: Query) -> Int32:
    """Items that the request excludes, and those that it names: an item is not similar to itself."""
    return np.concatenate((query.exclude, query.items))


@dataclass(frozen=True, slots=True)
class Eligibility:
    """What may be returned: matches the request's filter and is not hidden. A mask is made once for all
    requests with the same filter, and once for a batch."""

    rules: CatalogueFilter

    def of(self, queries: Queries) -> Eligible:
        """Raises InvalidFilter where a filter does not fit the catalogue; who lets requests in has looked."""
        return queries.once(ELIGIBLE, lambda: self._of(queries))

    def _of(self, queries: Queries) -> Eligible:
        masks = np.stack([self.rules.mask(each) for each in queries.filters])
        return Eligible(masks, queries.filter_of, queries.hidden)


@dataclass(frozen=True, slots=True)
class EligibleFilter:
    """Drops candidates that may not be returned, whatever brought them."""

    eligibility: Eligibility
    name: str = "eligible"

    @staticmethod
    def takes(queries: Queries) -> Mask:
        return np.ones(len(queries), np.bool_)

    def keep(self, queries: Queries, candidates: Candidates) -> Mask:
        return self.eligibility.of(queries).allows(candidates.items)


class DuplicateFilter:
    """Keeps the first of several rows of an item."""

    name = "duplicate"

    @staticmethod
    def takes(queries: Queries) -> Mask:
        return np.ones(len(queries), np.bool_)

    def keep(self, queries: Queries, candidates: Candidates) -> Mask:
        key = candidates.row << 32 | candidates.item_index
        keep = np.zeros(len(key), np.bool_)
        keep[np.unique(key, return_index=True)[1]] = True
        return keep
