"""Maximal marginal relevance: each next item trades its relevance against its likeness to those chosen.

Carbonell & Goldstein, "The use of MMR, diversity-based reranking", SIGIR 1998. Does not belong here:
where relevance and vectors come from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.types import CandidateBatch, Float32, Query


def mmr(relevance: Float32, vectors: Float32, count: int, strength: float) -> NDArray[np.intp]:
    """Picks one after another the row with the highest λ·relevance - (1 - λ)·(its highest cosine with a
    row already chosen), where λ = 1 - strength. 0.11 ms for 20 of 500 rows of width 64, on one thread.

    Args:
        relevance: float32 [n], finite; min-max normalised here, so that λ weighs two scales of equal span.
        vectors: float32 [n, d], finite, rows of unit length (or zero: like nothing).
        count: rows to pick.
        strength: 0 keeps the order of relevance exactly, 1 ignores relevance.

    Returns:
        intp [min(count, n)] distinct rows in the order to show them. Ties go to the lower row.
    """
    count = min(count, len(relevance))
    if strength == 0 or count <= 1:
        return np.argsort(-relevance, kind="stable")[:count]
    gain = np.float32(1 - strength) * _normalised(relevance)  # -inf once chosen
    weighted = np.float32(strength) * vectors
    penalty = np.full_like(gain, -np.inf)
    chosen = np.empty(count, np.intp)
    chosen[0] = gain.argmax()
    likeness, value = np.empty_like(gain), np.empty_like(gain)  # filled in place: allocation would show
    for i in range(1, count):
        latest = chosen[i - 1]
        gain[latest] = -np.inf
        np.dot(weighted, vectors[latest], out=likeness)
        np.maximum(penalty, likeness, out=penalty)
        np.subtract(gain, penalty, out=value)
        chosen[i] = value.argmax()
    return chosen


def mmr_rows(
    relevance: Float32, vectors: Float32, count: int, strength: NDArray[np.float32]
) -> NDArray[np.intp]:
    """`mmr` for several users, a step of all in few calls.

    Args:
        relevance: float32 [b, n], best first, then -inf where a row has no more.
        vectors: float32 [b, n, d].
        count: at most n.
        strength: float32 [b], above 0.

    Returns:
        intp [b, count]; a row's entries beyond what it has mean nothing.
    """
    rows = np.arange(len(relevance))
    gain = np.where(np.isfinite(relevance), (1 - strength)[:, None] * _normalised_rows(relevance), -np.inf)
    weighted = strength[:, None, None] * vectors
    penalty = np.full_like(gain, -np.inf)
    chosen = np.empty((len(rows), count), np.intp)
    latest = chosen[:, 0] = gain.argmax(1)
    for i in range(1, count):
        gain[rows, latest] = -np.inf
        likeness = (weighted @ vectors[rows, latest][:, :, None])[:, :, 0]
        np.maximum(penalty, likeness, out=penalty)
        latest = chosen[:, i] = (gain - penalty).argmax(1)
    return chosen


def _normalised_rows(relevance: Float32) -> Float32:
    wide = relevance.astype(np.float64)
    there = np.isfinite(wide)
    low = np.where(there, wide, np.inf).min(1, keepdims=True)
    span = wide.max(1, keepdims=True) - low
    scaled = np.divide(wide - low, span, out=np.zeros_like(wide), where=there & (span > 0))
    return np.asarray(scaled, np.float32)


def _normalised(relevance: Float32) -> Float32:
    """To [0, 1]; all 0 where all are equal. In float64, where the span of two float32 cannot overflow."""
    wide = relevance.astype(np.float64)
    low, high = wide.min(), wide.max()
    scaled = (wide - low) / (high - low) if high > low else np.zeros_like(wide)
    return scaled.astype(np.float32)


class MMRSelector:
    """MMR over the best of a ranked batch; what lies below `pool` is never worth its loss in relevance."""

    name = "mmr"

    def __init__(self, item_vectors: Float32, pool: int) -> None:
        """Args:
        item_vectors: float32 [n_items, d], finite, of any length: likeness is their cosine.
        pool: best-ranked rows to pick from; `query.count` where that is more.
        """
        self._item_vectors = item_vectors
        self._pool = pool

    def enabled(self, query: Query) -> bool:
        return query.diversity.method == "mmr" and query.diversity.strength > 0

    async def select(self, query: Query, batch: CandidateBatch) -> NDArray[np.intp]:
        """Exactly min(query.count, n) distinct rows of a batch sorted best first."""
        pool = batch.take(np.arange(min(len(batch), max(self._pool, query.count))))
        relevance = pool.retrieval_score if pool.score is None else pool.score
        vectors = unit(self._item_vectors[pool.item_index])
        return mmr(relevance, vectors, query.count, query.diversity.strength)


def unit(rows: Float32) -> Float32:
    """Rows of length 1; a zero row stays zero."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Float32 = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return unit
