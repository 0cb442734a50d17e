"""Maximal marginal relevance: each next item trades its relevance against its likeness to those chosen.

Carbonell & Goldstein, "The use of MMR, diversity-based reranking", SIGIR 1998. Does not belong here:
where relevance and vectors come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

import numpy as np
from pydantic import PositiveInt

from serving.batch import Candidates, Queries
from serving.parts import Options, Parts
from serving.types import Float32, Mask
from training.models.arrays import Int64
from training.models.ragged import Ragged, splits
from training.spec import PipelineSpec, StageSpec


def mmr(relevance: Float32, vectors: Float32, count: int, strength: Float32) -> Int64:
    """Picks for each request one after another the row with the highest λ·relevance - (1 - λ)·(its highest
    cosine with a row already chosen), where λ = 1 - strength; a step of all requests in a few calls.

    Args:
        relevance: float32 [b, n], best first, then -inf where a request has no more; min-max normalised here,
            so that λ weighs two scales of equal span.
        vectors: float32 [b, n, d], finite, rows of unit length (or zero: like nothing).
        count: rows to pick, at most n.
        strength: float32 [b]; 0 keeps the order of relevance exactly, 1 ignores relevance.

    Returns:
        int64 [b, count], distinct rows in the order to show them, ties to the lower row; what a request has
        no row for means nothing.
    """
    rows = np.arange(len(relevance))
    there = np.isfinite(relevance)
    gain = np.where(there, (1 - strength)[:, None] * _normalised(relevance), -np.inf)  # -inf once chosen
    gain = gain.astype(np.float32)
    weighted = strength[:, None, None] * vectors
    penalty = np.full_like(gain, -np.inf)
    chosen = np.empty((len(rows), count), np.int64)
    for i in range(count):
        latest = chosen[:, i] = (gain if i == 0 else gain - penalty).argmax(1)
        gain[rows, latest] = -np.inf
        likeness = (weighted @ vectors[rows, latest][:, :, None])[:, :, 0]
        np.maximum(penalty, likeness, out=penalty)
    kept = strength == 0
    chosen[kept] = np.arange(count)
    return chosen


def _normalised(relevance: Float32) -> Float32:
    """Every row to [0, 1]; all 0 where all are equal. In float64, where the span of two float32 cannot
    overflow."""
    wide = relevance.astype(np.float64)
    there = np.isfinite(wide)
    low = np.where(there, wide, np.inf).min(1, keepdims=True, initial=np.inf)
    span = wide.max(1, keepdims=True, initial=-np.inf) - low
    scaled = np.divide(wide - low, span, out=np.zeros_like(wide), where=there & (span > 0))
    return np.asarray(scaled, np.float32)


class ItemVectors(Protocol):
    """Attributes:
    item_vectors: float32 [n_items, d].
    """

    item_vectors: Float32


class MMRSelector:
    """MMR over the best of a ranked list; what lies below `pool` is never worth its loss in relevance."""

    name = "mmr"
    MODELS: ClassVar[Mapping[str, type]] = {"vectors": ItemVectors}

    class Settings(Options):
        pool: PositiveInt

    @classmethod
    def build(cls, spec: StageSpec, parts: Parts, pipeline: PipelineSpec) -> MMRSelector:
        return cls(parts.model(spec, "vectors").item_vectors, cls.Settings.of(spec).pool)

    def __init__(self, item_vectors: Float32, pool: int) -> None:
        """Args:
        item_vectors: float32 [n_items, d], finite, of any length: likeness is their cosine.
        pool: best-ranked rows to pick from; the items wanted where that is more.
        """
        self._unit = unit(item_vectors)
        self._pool = pool

    @staticmethod
    def takes(queries: Queries) -> Mask:
        wanted: Mask = queries.diversity > 0
        return wanted

    def select(self, queries: Queries, candidates: Candidates) -> Ragged[np.int64]:
        wanted = np.minimum(candidates.lengths, queries.count)
        pool = np.minimum(candidates.lengths, np.maximum(self._pool, queries.count))
        width = int(pool.max(initial=0))
        column = np.arange(width)
        there = column < pool[:, None]
        place = np.where(there, candidates.row_splits[:-1, None] + column, 0)
        score = candidates.relevance
        relevance = np.where(there, score[place], np.float32(-np.inf))
        vectors = self._unit[candidates.item_index[place]]
        chosen = mmr(relevance, vectors, int(wanted.max(initial=0)), queries.diversity)
        row_splits = splits(wanted)
        first = np.arange(int(row_splits[-1])) - np.repeat(row_splits[:-1], wanted)
        row = np.repeat(np.arange(len(candidates)), wanted)
        return Ragged(candidates.row_splits[row] + chosen[row, first], row_splits)


def unit(rows: Float32) -> Float32:
    """Rows of length 1; a zero row stays zero."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    made: Float32 = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return made
