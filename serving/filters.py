"""The filter stages, which check what sources and blenders made.

Does not belong here: what may be shown (`serving.eligibility`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serving.batch import Candidates, Queries
from serving.eligibility import Eligibility
from serving.parts import Options, Parts
from serving.types import Mask
from training.spec import PipelineSpec, StageSpec


@dataclass(frozen=True, slots=True)
class EligibleFilter:
    """Drops candidates that may not be returned, whatever brought them."""

    eligibility: Eligibility
    name: str = "eligible"

    @classmethod
    def build(cls, spec: StageSpec, parts: Parts, pipeline: PipelineSpec) -> EligibleFilter:
        Options.of(spec)
        return cls(parts.eligibility, spec.name)

    @staticmethod
    def takes(queries: Queries) -> Mask:
        return np.ones(len(queries), np.bool_)

    def keep(self, queries: Queries, candidates: Candidates) -> Mask:
        return self.eligibility.of(queries).allows(candidates.items)


class DuplicateFilter:
    """Keeps the first of several rows of an item."""

    name = "duplicate"

    @classmethod
    def build(cls, spec: StageSpec, parts: Parts, pipeline: PipelineSpec) -> DuplicateFilter:
        Options.of(spec)
        return cls()

    @staticmethod
    def takes(queries: Queries) -> Mask:
        return np.ones(len(queries), np.bool_)

    def keep(self, queries: Queries, candidates: Candidates) -> Mask:
        key = candidates.row << 32 | candidates.item_index
        keep = np.zeros(len(key), np.bool_)
        keep[np.unique(key, return_index=True)[1]] = True
        return keep
