"""Items similar to one item: by what people do with both, and by what both are.

The second fills in where the first knows too little: a new item has properties before it has a public.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import PositiveInt

from serving.batch import Candidates, Queries
from serving.eligibility import Eligibility
from serving.parts import Options, Parts
from serving.types import Float32, Int32, Mask
from training.models.linear import ItemModel
from training.models.retrieval import top_k
from training.spec import PipelineSpec, StageSpec


@dataclass(frozen=True, slots=True)
class SimilarByBehaviour:
    """Items that people who chose the first item named chose as well, where there is evidence for it."""

    model: ItemModel
    eligibility: Eligibility
    limit: int
    name: str = "behaviour"
    personal: ClassVar[bool] = False

    MODELS: ClassVar[Mapping[str, type]] = {"linear": ItemModel}

    class Settings(Options):
        limit: PositiveInt

    @classmethod
    def build(cls, spec: StageSpec, parts: Parts, pipeline: PipelineSpec) -> SimilarByBehaviour:
        return cls(parts.model(spec, "linear"), parts.eligibility, cls.Settings.of(spec).limit, spec.name)

    @staticmethod
    def takes(queries: Queries) -> Mask:
        return _naming(queries)

    def retrieve(self, queries: Queries) -> Candidates:
        limit = max(self.limit, int(queries.count.max()))
        return Candidates.of(*self.model.similar(_anchors(queries), self.eligibility.of(queries), limit))


class SimilarByContent:
    """Items whose properties point the same way: cosine of the encoded features."""

    personal = False

    class Settings(Options):
        limit: PositiveInt

    @classmethod
    def build(cls, spec: StageSpec, parts: Parts, pipeline: PipelineSpec) -> SimilarByContent:
        return cls(parts.catalogue.features, parts.eligibility, cls.Settings.of(spec).limit, spec.name)

    def __init__(
        self, item_features: Float32, eligibility: Eligibility, limit: int, name: str = "content"
    ) -> None:
        self.name = name
        self._features = item_features
        self._length = np.linalg.norm(item_features, axis=1)
        self._eligibility = eligibility
        self._limit = limit

    @staticmethod
    def takes(queries: Queries) -> Mask:
        return _naming(queries)

    def retrieve(self, queries: Queries) -> Candidates:
        anchors = _anchors(queries)
        length = self._length[anchors, None] * self._length
        cosine = self._features[anchors] @ self._features.T
        np.divide(cosine, length, out=cosine, where=length > 0)
        limit = max(self._limit, int(queries.count.max()))
        return Candidates.of(*top_k(self._eligibility.of(queries).of(cosine), limit))


def _naming(queries: Queries) -> Mask:
    naming: Mask = queries.named.lengths > 0
    return naming


def _anchors(queries: Queries) -> Int32:
    """int32 [b]: the first item that each request names."""
    return queries.named.values[queries.named.row_splits[:-1]]
