"""What may be shown for a query: sources choose within it, so that a narrow filter still fills the answer,
and filters check what comes out (`serving.filters`).

Does not belong here: how a filter expression is read (`serving.expressions`), and any preference between
items that may be shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from serving.batch import Queries
from serving.expressions import CatalogueFilter
from serving.types import Int32, Query
from training.models.retrieval import Eligible
from training.spec import Hidden

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
        masks = tuple(self.rules.mask(each) for each in queries.filters)
        return Eligible(masks, queries.filter_of, queries.hidden)


HIDDEN: Mapping[Hidden, Callable[[Query], Int32]] = {
    "met": hidden,
    "named": not_itself,
    "nothing": lambda query: query.items[:0],
}
"""What a pipeline declares → the items that it does not return."""
