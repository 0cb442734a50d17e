"""What everybody chooses lately: the answer to those of whom nothing is known, and when all else is lost."""

from __future__ import annotations

import numpy as np

from serving.retrieval.eligible import Eligible
from serving.types import CandidateBatch, Float32, Int32, Mask, Query
from training.models.statistics import ItemStatistics


class PopularSource:
    name = "popular"
    personal = False

    def __init__(self, statistics: ItemStatistics, eligible: Eligible, limit: int) -> None:
        self._statistics = statistics
        self._eligible = eligible
        self._limit = limit
        self._ordered: tuple[Float32, Int32] | None = None

    def enabled(self, query: Query) -> bool:
        return True

    async def retrieve(self, query: Query) -> CandidateBatch:
        popularity = self._statistics.at(query.now).popularity_month
        items = first_allowed(
            self._best_first(popularity), self._eligible(query), max(self._limit, query.count)
        )
        return CandidateBatch.of(items, popularity[items])

    def _best_first(self, popularity: Float32) -> Int32:
        """Ordered once for each table, so that a request looks at the head alone, not at the catalogue."""
        if self._ordered is None or self._ordered[0] is not popularity:
            self._ordered = popularity, np.argsort(-popularity, kind="stable").astype(np.int32)
        return self._ordered[1]


def first_allowed(order: Int32, allowed: Mask, count: int) -> Int32:
    """The first `count` of `order` that are allowed, or as many as there are.

    Args:
        order: int32 [n], item indices.
        allowed: bool [n], by item.
    """
    ahead = 2 * count
    while True:
        head = order[:ahead]
        found = head[allowed[head]]
        if len(found) >= count or ahead >= len(order):
            return found[:count]
        ahead *= 4


def first_allowed_rows(order: Int32, allowed: Mask, count: int) -> Int32:
    """`first_allowed` of every row; what a row lacks is item `n`, at its end.

    Args:
        order: int32 [n], item indices.
        allowed: bool [b, n], by item.
    """
    free = allowed[:, order]
    places = np.cumsum(free, axis=1)
    row, column = (free & (places <= count)).nonzero()
    items = np.full((len(allowed), min(count, len(order))), len(order), np.int32)
    items[row, places[row, column] - 1] = order[column]
    return items
