"""Candidates that go with the items of the history, by a closed-form item-to-item model: EASE for what
people chose together, its sequential form for what they chose next."""

from __future__ import annotations

from serving.retrieval.eligible import Eligible
from serving.retrieval.index import top_k
from serving.types import CandidateBatch, Query
from training.models.linear import LinearItemModel


class LinearSource:
    personal = True

    def __init__(self, name: str, model: LinearItemModel, eligible: Eligible, limit: int) -> None:
        self.name = name
        self._model = model
        self._eligible = eligible
        self._limit = limit

    def enabled(self, query: Query) -> bool:
        return len(query.history) > 0

    async def retrieve(self, query: Query) -> CandidateBatch:
        scores = self._model.score(query.history.item_index)
        return CandidateBatch.of(*top_k(scores, self._limit, self._eligible(query)))
