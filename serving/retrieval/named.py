"""The items that requests name, to be ranked: by popularity until a ranker has its say, ties as named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from serving.batch import Candidates, Queries
from serving.parts import Options, Parts
from serving.types import Float32, Mask
from training.models.ragged import Ragged, ranked, splits
from training.models.statistics import ItemStatistics
from training.spec import PipelineSpec, StageSpec


@dataclass(frozen=True, slots=True)
class NamedItems:
    statistics: ItemStatistics
    name: str = "named"
    personal: ClassVar[bool] = False
    MODELS: ClassVar[Mapping[str, type]] = {"statistics": ItemStatistics}

    @classmethod
    def build(cls, spec: StageSpec, parts: Parts, pipeline: PipelineSpec) -> NamedItems:
        Options.of(spec)
        return cls(parts.model(spec, "statistics"), spec.name)

    @staticmethod
    def takes(queries: Queries) -> Mask:
        return np.ones(len(queries), np.bool_)

    def retrieve(self, queries: Queries) -> Candidates:
        key = queries.named.row << 32 | queries.named.values
        first = np.sort(np.unique(key, return_index=True)[1])
        row, items = queries.named.row[first], queries.named.values[first]
        popularity = np.empty(len(items), np.float32)
        for users, table in self.statistics.of_days(queries.now):
            here = np.isin(row, users)
            popularity[here] = table.popularity_month[items[here]]
        order = ranked(row, popularity)
        named = Ragged(items[order], splits(np.bincount(row, minlength=len(queries))))
        best: Float32 = popularity[order]
        return Candidates.of(named, best)
