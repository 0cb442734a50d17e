"""The items a request names, to be ranked: by popularity until a ranker has its say, ties as named."""

from __future__ import annotations

import numpy as np

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
        items = query.items[np.sort(np.unique(query.items, return_index=True)[1])]
        popularity = self._statistics.at(query.now).popularity_month[items]
        best_first = (-popularity).argsort(kind="stable")
        return CandidateBatch.of(items[best_first], popularity[best_first])
