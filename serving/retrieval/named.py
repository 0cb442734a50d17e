"""The items a request names, to be ranked: in order of popularity until a ranker has its say."""

from __future__ import annotations

from serving.types import CandidateBatch, Query
from training.models.statistics import ItemStatistics


class NamedItems:
    name = "named"
    personal = False

    def __init__(self, statistics: ItemStatistics) -> None:
        self._statistics = statistics

    def enabled(self, query: Query) -> bool:
        return True

    async def retrieve(self, query: Query) -> CandidateBatch:
        popularity = self._statistics.at(query.now).popularity_month[query.items]
        best_first = (-popularity).argsort(kind="stable")
        return CandidateBatch.of(query.items[best_first], popularity[best_first])
