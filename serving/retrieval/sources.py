"""Sources over the base models: each user's best by one model, among the items they may be shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from pydantic import PositiveInt

from serving.batch import Candidates, Queries
from serving.columns import BASE_MODELS, base_models, scores_of
from serving.eligibility import Eligibility
from serving.parts import Options, Parts
from serving.types import Mask
from training.models.ann import APPROXIMATE_FROM
from training.models.index import ExactIndex, VectorIndex, nearest
from training.models.retrieval import personal, popular
from training.models.scores import BaseModels
from training.models.statistics import ItemStatistics
from training.spec import PipelineSpec, StageSpec


@dataclass(frozen=True, slots=True)
class ModelSource:
    """The best by one of the base models, all items scored."""

    name: str
    by: str
    models: BaseModels
    eligibility: Eligibility
    limit: int
    personal: ClassVar[bool] = True

    MODELS: ClassVar[Mapping[str, type]] = BASE_MODELS

    class Settings(Options):
        by: Literal["two_tower", "ease", "sequential"]
        limit: PositiveInt

    @classmethod
    def build(cls, spec: StageSpec, parts: Parts, pipeline: PipelineSpec) -> ModelSource:
        options = cls.Settings.of(spec)
        return cls(spec.name, options.by, base_models(spec, parts), parts.eligibility, options.limit)

    @staticmethod
    def takes(queries: Queries) -> Mask:
        return queries.with_history

    def retrieve(self, queries: Queries) -> Candidates:
        eligible = self.eligibility.of(queries)
        return Candidates.of(*personal(scores_of(queries, self.models), self.by, eligible, self.limit))


@dataclass(frozen=True, slots=True)
class VectorSource:
    """The nearest of the two-tower's item vectors by an index made when it is served: where the catalogue is
    too large to score all of it at once, and the bundle has no ANN that finds enough."""

    name: str
    models: BaseModels
    index: VectorIndex
    eligibility: Eligibility
    limit: int
    personal: ClassVar[bool] = True

    MODELS: ClassVar[Mapping[str, type]] = BASE_MODELS

    class Settings(Options):
        limit: PositiveInt

    @classmethod
    def build(cls, spec: StageSpec, parts: Parts, pipeline: PipelineSpec) -> ModelSource | VectorSource:
        limit, base = cls.Settings.of(spec).limit, base_models(spec, parts)
        if base.n_items < APPROXIMATE_FROM or base.two_tower.index is not None:
            return ModelSource(spec.name, "two_tower", base, parts.eligibility, limit)
        index = ExactIndex(base.two_tower.item_vectors)
        return cls(spec.name, base, index, parts.eligibility, limit)

    @staticmethod
    def takes(queries: Queries) -> Mask:
        return queries.with_history

    def retrieve(self, queries: Queries) -> Candidates:
        users = scores_of(queries, self.models).user_vectors
        eligible = self.eligibility.of(queries)
        return Candidates.of(*nearest(self.index, users, eligible, self.limit))


@dataclass(frozen=True, slots=True)
class PopularSource:
    """What everybody chooses lately: the answer to those of whom nothing is known, and when all else is
    lost."""

    statistics: ItemStatistics
    eligibility: Eligibility
    limit: int
    name: str = "popular"
    personal: ClassVar[bool] = False

    MODELS: ClassVar[Mapping[str, type]] = {"statistics": ItemStatistics}

    class Settings(Options):
        limit: PositiveInt

    @classmethod
    def build(cls, spec: StageSpec, parts: Parts, pipeline: PipelineSpec) -> PopularSource:
        limit = cls.Settings.of(spec).limit
        return cls(parts.model(spec, "statistics"), parts.eligibility, limit, spec.name)

    @staticmethod
    def takes(queries: Queries) -> Mask:
        return np.ones(len(queries), np.bool_)

    def retrieve(self, queries: Queries) -> Candidates:
        limit = max(self.limit, int(queries.count.max()))
        return Candidates.of(*popular(self.statistics, queries.now, self.eligibility.of(queries), limit))
