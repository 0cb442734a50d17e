"""Items similar to one item: by what people do with both, and by what both are.

The second fills in where the first knows too little: a new item has properties before it has a public.
"""

from __future__ import annotations

import numpy as np

from serving.retrieval.eligible import Eligible
from serving.retrieval.index import ExactIndex, top_k
from serving.types import CandidateBatch, Float32, Query
from training.models.linear import LinearItemModel


class SimilarByBehaviour:
    """Items that people who chose `query.items[0]` chose as well, where there is evidence for it."""

    name = "behaviour"
    personal = False

    def __init__(self, model: LinearItemModel, eligible: Eligible, limit: int) -> None:
        self._model = model
        self._eligible = eligible
        self._limit = limit

    def enabled(self, query: Query) -> bool:
        return len(query.items) > 0

    async def retrieve(self, query: Query) -> CandidateBatch:
        weights = self._model.weights[query.items[0]]
        evident = self._eligible(query) & (weights > 0)
        return CandidateBatch.of(*top_k(weights, max(self._limit, query.count), evident))


class SimilarByContent:
    """Items whose properties point the same way: cosine of the encoded features."""

    name = "content"
    personal = False

    def __init__(self, item_features: Float32, eligible: Eligible, limit: int) -> None:
        length = np.linalg.norm(item_features, axis=1, keepdims=True)
        self._unit = np.divide(item_features, length, out=np.zeros_like(item_features), where=length > 0)
        self._index = ExactIndex(self._unit)
        self._eligible = eligible
        self._limit = limit

    def enabled(self, query: Query) -> bool:
        return len(query.items) > 0

    async def retrieve(self, query: Query) -> CandidateBatch:
        anchor = self._unit[query.items[0]]
        limit = max(self._limit, query.count)
        return CandidateBatch.of(*self._index.search(anchor, limit, self._eligible(query)))
