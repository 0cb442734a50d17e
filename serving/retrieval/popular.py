"""What everybody chooses lately: the answer to those of whom nothing is known, and when all else is lost."""

from __future__ import annotations

from serving.retrieval.eligible import Eligible
from serving.retrieval.index import top_k
from serving.types import CandidateBatch, Query
from training.models.statistics import ItemStatistics


class PopularSource:
    name = "popular"
    personal = False

    def __init__(self, statistics: ItemStatistics, eligible: Eligible, limit: int) -> None:
        self._statistics = statistics
        self._eligible = eligible
        self._limit = limit

    def enabled(self, query: Query) -> bool:
        return True

    async def retrieve(self, query: Query) -> CandidateBatch:
        popularity = self._statistics.at(query.now).popularity_month
        limit = max(self._limit, query.count)
        return CandidateBatch.of(*top_k(popularity, limit, self._eligible(query)))
