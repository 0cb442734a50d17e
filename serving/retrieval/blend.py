"""Blenders: what several sources brought becomes one list a request, each item once, best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from pydantic import PositiveInt

from serving.batch import Candidates, Queries, UInt32
from serving.parts import Options, Parts
from training.models.arrays import Int64
from training.models.blend import Blend
from training.models.ragged import splits
from training.spec import PipelineSpec, StageSpec


class CalibratedBlender:
    """Scores of different scales become probabilities, learned with the bundle; quotas keep every source
    in the answer."""

    name = "calibrated"
    MODELS: ClassVar[Mapping[str, type]] = {"blend": Blend}

    class Settings(Options):
        limit: PositiveInt

    @classmethod
    def build(cls, spec: StageSpec, parts: Parts, pipeline: PipelineSpec) -> CalibratedBlender:
        sources = tuple(source.name for source in pipeline.of("source"))
        return cls(parts.model(spec, "blend"), sources, cls.Settings.of(spec).limit)

    def __init__(self, model: Blend, sources: tuple[str, ...], limit: int) -> None:
        """`sources[i]` is the name of source i of the pipeline."""
        self._model = model
        self._sources = sources
        self._limit = limit
        self._moves = tuple(
            (theirs, sources.index(name)) for theirs, name in enumerate(model.names) if name in sources
        )

    def blend(self, queries: Queries, brought: Sequence[Candidates | None]) -> Candidates:
        scored = {
            name: (found.items, found.retrieval_score)
            for name, found in zip(self._sources, brought, strict=True)
            if found is not None
        }
        if not scored:
            return Candidates.empty(len(queries))
        limit: Int64 = np.maximum(self._limit, queries.count).astype(np.int64)
        items, probability, bits = self._model.blend(scored, limit)
        return Candidates(items.row_splits, items.values, self._as_numbered_here(bits), probability)

    def _as_numbered_here(self, bits: UInt32) -> UInt32:
        """The model's source bits, moved to where the pipeline has these sources."""
        if all(theirs == ours for theirs, ours in self._moves):
            return bits
        moved = np.zeros_like(bits)
        for theirs, ours in self._moves:
            moved |= ((bits >> np.uint32(theirs)) & np.uint32(1)) << np.uint32(ours)
        return moved


class Cascade:
    """All of the first source, then what only the second brought, and so on: for sources whose scores
    cannot be compared but whose order of trust is known. The first source's scores stay; a later one's are
    lowered together, as far as it takes for none to exceed those before."""

    name = "cascade"

    @classmethod
    def build(cls, spec: StageSpec, parts: Parts, pipeline: PipelineSpec) -> Cascade:
        Options.of(spec)
        return cls()

    def blend(self, queries: Queries, brought: Sequence[Candidates | None]) -> Candidates:
        found = [each for each in brought if each is not None and len(each.item_index)]
        if not found:
            return Candidates.empty(len(queries))
        key = np.concatenate([each.row << 32 | each.item_index for each in found])
        keys, first, of = np.unique(key, return_index=True, return_inverse=True)
        bits = np.zeros(len(keys), np.uint32)
        np.bitwise_or.at(bits, of, np.concatenate([each.source for each in found]))
        score = np.concatenate([each.retrieval_score for each in found])[first]
        rank = np.repeat(np.arange(len(found)), [len(each.item_index) for each in found])[first]
        row = keys >> 32
        floor = np.full(len(queries), np.inf, np.float32)
        for level in range(len(found)):
            here = rank == level
            highest = np.full(len(queries), -np.inf, np.float32)
            np.maximum.at(highest, row[here], score[here])
            drop = np.maximum(np.float32(0), np.where(np.isfinite(floor), highest - floor, 0))
            score[here] = np.minimum(score[here] - drop[row[here]], floor[row[here]])
            np.minimum.at(floor, row[here], score[here])
        order = np.lexsort((first, rank, row))  # sources bring their best first
        lengths = np.bincount(row, minlength=len(queries))
        items = (keys[order] & 0xFFFFFFFF).astype(np.int32)
        return Candidates(splits(lengths), items, bits[order], score[order])
