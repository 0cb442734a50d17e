"""The columns that rankers read, and the base models' scores behind them, computed once for a batch.

The computations are the ones training used (`training.models`). Does not belong here: what is made of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from serving.batch import Candidates, Queries
from serving.parts import Options, Parts
from serving.types import Float32, Mask
from training.models.linear import ItemModel
from training.models.ranking_features import NAMES, ranking_features
from training.models.scores import BaseModels, Scores
from training.models.statistics import ItemStatistics
from training.models.two_tower.model import TwoTowerScorer
from training.spec import PipelineSpec, StageSpec

BASE = "base models"
"""What a batch remembers the models' scores by, and a bundle's parts the models."""

BASE_MODELS: Mapping[str, type] = {
    "two_tower": TwoTowerScorer,
    "ease": ItemModel,
    "sequential": ItemModel,
    "statistics": ItemStatistics,
}
"""What a stage that reads the base models calls them, and what each is."""


def base_models(spec: StageSpec, parts: Parts) -> BaseModels:
    """Those that the stage names, the same object for all that name the same."""
    key = (BASE, *(spec.models.get(name) for name in BASE_MODELS))
    return parts.once(key, lambda: BaseModels.of(*(parts.model(spec, name) for name in BASE_MODELS)))


def scores_of(queries: Queries, models: BaseModels) -> Scores:
    """The models' scores of a batch, computed once for all stages that read them."""
    return queries.once(BASE, lambda: Scores(models, queries.histories.item_index, queries.user_features))


@dataclass(frozen=True, slots=True)
class RankingHydrator:
    """The base models' scores and the items' own statistics, a column each."""

    models: BaseModels
    name: str = "ranking_features"
    requires: tuple[str, ...] = ()
    MODELS: ClassVar[Mapping[str, type]] = BASE_MODELS
    PROVIDES: ClassVar[tuple[str, ...]] = NAMES

    @property
    def provides(self) -> tuple[str, ...]:
        return self.PROVIDES

    @classmethod
    def build(cls, spec: StageSpec, parts: Parts, pipeline: PipelineSpec) -> RankingHydrator:
        Options.of(spec)
        return cls(base_models(spec, parts), spec.name)

    @staticmethod
    def takes(queries: Queries) -> Mask:
        return queries.with_history

    def hydrate(self, queries: Queries, candidates: Candidates) -> Candidates:
        scores = scores_of(queries, self.models)
        rows = ranking_features(scores, self.models.statistics, queries.now, candidates.items)
        return candidates.with_columns(dict(zip(NAMES, rows.T, strict=True)))


def rows_of(candidates: Candidates, names: tuple[str, ...]) -> Float32:
    """float32 [n, f]: these columns. Raises KeyError where one was not hydrated."""
    rows = np.empty((len(names), len(candidates.item_index)), np.float32)
    for place, name in enumerate(names):
        rows[place] = candidates.columns[name]
    return rows.T
