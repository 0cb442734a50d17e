"""Blenders: what several sources brought becomes one batch, each item once, best first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from serving.types import CandidateBatch, Int32, Query
from training.models.blend import Blend


class CalibratedBlender:
    """Scores of different scales become probabilities, learned with the bundle; quotas keep every source
    in the answer."""

    name = "calibrated"

    def __init__(self, model: Blend, sources: tuple[str, ...], limit: int) -> None:
        """`sources[i]` is the name of source i of the pipeline."""
        self._model = model
        self._sources = sources
        self._limit = limit
        self._moves = tuple(
            (theirs, sources.index(name)) for theirs, name in enumerate(model.names) if name in sources
        )

    def enabled(self, query: Query) -> bool:
        return True

    def blend(self, query: Query, batches: Sequence[CandidateBatch | None]) -> CandidateBatch:
        brought = {
            name: (batch.item_index, batch.retrieval_score)
            for name, batch in zip(self._sources, batches, strict=True)
            if batch is not None
        }
        items, probability, bits = self._model.blend(brought, max(self._limit, query.count))
        return CandidateBatch(items, self._as_numbered_here(bits), probability)

    def _as_numbered_here(self, bits: NDArray[np.uint32]) -> NDArray[np.uint32]:
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

    def enabled(self, query: Query) -> bool:
        return True

    def blend(self, query: Query, batches: Sequence[CandidateBatch | None]) -> CandidateBatch:
        kept: list[CandidateBatch] = []
        taken, floor = np.empty(0, np.int32), np.float32(np.inf)
        for batch in batches:
            if batch is None:
                continue
            new = batch.take(np.isin(batch.item_index, taken, invert=True))
            if len(new):
                drop = max(np.float32(0), new.retrieval_score.max() - floor)
                lowered = np.minimum(new.retrieval_score - drop, floor)
                kept.append(replace(new, retrieval_score=lowered))
                taken, floor = np.concatenate([taken, new.item_index]), lowered.min()
        every = CandidateBatch.concat(kept)
        return replace(every, source=_source_bits(every.item_index, batches))


def _source_bits(items: Int32, batches: Sequence[CandidateBatch | None]) -> NDArray[np.uint32]:
    """For each item, the bits of all sources that brought it, as the pipeline numbers them."""
    bits = [np.isin(items, b.item_index) * b.source[:1].max(initial=0) for b in batches if b is not None]
    return reduce(np.bitwise_or, bits, np.zeros(len(items), np.uint32)).astype(np.uint32)
