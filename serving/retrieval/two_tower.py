"""Candidates whose vectors are nearest to the user's: exact inner products, one pass over the catalogue."""

from __future__ import annotations

from serving.retrieval.eligible import Eligible
from serving.retrieval.index import VectorIndex
from serving.types import CandidateBatch, Query
from training.models.two_tower import TwoTowerScorer


class TwoTowerSource:
    """Needs a history: the towers were trained on users who had one."""

    name = "two_tower"
    personal = True

    def __init__(self, model: TwoTowerScorer, index: VectorIndex, eligible: Eligible, limit: int) -> None:
        self._model = model
        self._index = index
        self._eligible = eligible
        self._limit = limit

    def enabled(self, query: Query) -> bool:
        return len(query.history) > 0

    async def retrieve(self, query: Query) -> CandidateBatch:
        user = self._model.user_vector(query.history.item_index, query.user_features)
        items, similarity = self._index.search(user, self._limit, self._eligible(query))
        return CandidateBatch.of(items, similarity * self._model.scale)
