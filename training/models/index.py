"""Exact top-k over the catalogue: of dense scores, and of inner products with one query vector.

Does not belong here: where vectors come from, and which items a query may see (`serving.filters`).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from training.models.arrays import Float32, Int32, Mask
from training.models.eligible import Eligible, Retrieved
from training.models.eligible import top_k as of_rows
from training.models.ragged import Ragged


def top_k(scores: Float32, k: int, allowed: Mask | None = None) -> tuple[Int32, Float32]:
    """The `k` highest of one row of scores, best first, ties by lower index.

    Args:
        scores: float32 [n]; an item whose score is NaN or -inf has none, and is never returned.
        k: how many, at least 0.
        allowed: bool [n], the items to choose from; None allows all.

    Returns:
        item index int32 [k'] and score float32 [k'], where k' = min(k, allowed items that have a score).
    """
    if k < 0:
        raise ValueError(f"k must be at least 0, not {k}")
    eligible = scores > -np.inf
    if allowed is not None:
        eligible &= allowed
    items, best = of_rows(np.where(eligible, scores, np.float32(-np.inf))[None], k)
    return items.values, best


def top_k_of(vectors: Float32, rows: NDArray[np.integer], query: Float32, k: int) -> tuple[Int32, Float32]:
    """`top_k` of these rows' inner products with the query; reads no others. `rows` ascend."""
    place, score = top_k(vectors[rows] @ query, k)
    return rows[place].astype(np.int32), score


def usable(vectors: Float32) -> Float32:
    """The vectors, in C order.

    Raises:
        ValueError: not a float32 matrix, or it holds a NaN or an infinity.
    """
    if vectors.ndim != 2 or vectors.dtype != np.float32:
        raise ValueError(f"vectors must be float32 [n, d], not {vectors.dtype} {list(vectors.shape)}")
    if not np.isfinite(vectors).all():
        raise ValueError("vectors hold a NaN or an infinity")
    return np.ascontiguousarray(vectors)


class VectorIndex(Protocol):
    """Finds the items whose vectors have the largest inner product with a query."""

    def search(self, query: Float32, k: int, allowed: Mask | None = None) -> tuple[Int32, Float32]:
        """`top_k` of the inner products; an approximate index may miss some of them.

        Args:
            query: float32 [d].
            k: how many, at least 0.
            allowed: bool [n], the items to choose from; None allows all.
        """
        ...


# Rows a block. Measured at 1,000,000 x 128, one thread: 2,048 rows 38 ms, 4,096 33, 8,192 30, 16,384 29,
# 32,768 28 (a plain read of those bytes: 27 to 33). Beyond 16,384 a block's scores outgrow a core's caches.
BLOCK = 16_384
# Where fewer than this share of the items is allowed, their rows alone are read: a gathered row costs about
# ten times a streamed one (1/16 of a million: 14 ms against 29; 1/8: 47).
GATHER = 1 / 16


class ExactIndex:
    """Every allowed item is scored; nothing is rounded.

    Up to `BLOCK` items that is one product. Above it the matrix is also held in transposed blocks, [d, BLOCK]
    each (a second copy, 4·n·d bytes): the product then adds whole rows into scores that stay in cache,
    which streams at the memory's speed, where row-by-row inner products do not; and what a block brings is
    compared with the k-th best so far before it leaves the cache, so that the scores are never read again.

    One thread, k = 100: 0.05 ms for 1,700 x 64; 29 ms for 1,000,000 x 128, where reading the matrix takes
    27 to 33, the plain product and `top_k` 54, and torch 76.
    """

    def __init__(self, vectors: Float32) -> None:
        """Args:
        vectors: float32 [n, d], row i for item i.

        Raises:
            ValueError: not a float32 matrix, or it holds a NaN or an infinity.
        """
        self._vectors = usable(vectors)
        self._blocks = _transposed(self._vectors) if len(vectors) > BLOCK else []

    def search(self, query: Float32, k: int, allowed: Mask | None = None) -> tuple[Int32, Float32]:
        if not self._blocks or k <= 0:
            return top_k(self._vectors @ query, k, allowed)
        if allowed is not None and np.count_nonzero(allowed) < GATHER * len(allowed):
            return top_k_of(self._vectors, np.flatnonzero(allowed), query, k)
        leaders, start = _Leaders(k), 0
        scratch = np.empty(BLOCK, np.float32)
        for block in self._blocks:
            end = start + block.shape[1]
            scores = np.dot(query, block, out=scratch[: end - start])
            leaders.offer(start, scores, None if allowed is None else allowed[start:end])
            start = end
        return leaders.best()


def nearest(index: VectorIndex, queries: Float32, eligible: Eligible, k: int) -> Retrieved:
    """The `k` best of each query [b, d] that its user may be shown. Masks are shared between users, so what
    is hidden from one is looked for with the rest, and dropped."""
    found, scores = [], []
    for row, query in enumerate(queries):
        hidden = eligible.hidden[row]
        items, score = index.search(query, k + len(hidden), eligible.matching(row))
        kept = np.flatnonzero(~np.isin(items, hidden))[:k]
        found.append(items[kept])
        scores.append(score[kept])
    return Ragged.of(found, np.int32), np.concatenate([np.empty(0, np.float32), *scores])


def _transposed(vectors: Float32) -> list[Float32]:
    """[d, BLOCK] each, the last one narrower; in one allocation, which the system can give large pages."""
    n, d = vectors.shape
    memory = np.empty(n * d, np.float32)
    blocks = []
    for start in range(0, n, BLOCK):
        rows = vectors[start : start + BLOCK]
        block = memory[start * d : (start + len(rows)) * d].reshape(d, len(rows))
        block[:] = rows.T
        blocks.append(block)
    return blocks


class _Leaders:
    """`top_k` of scores that arrive in pieces, in the order of their index."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._bar = np.float32(-np.inf)  # the k-th best so far; an equal that comes later has lost to it
        self._index: list[NDArray[np.intp]] = []  # ascending, all together
        self._score: list[Float32] = []
        self._held = 0

    def offer(self, start: int, scores: Float32, allowed: Mask | None) -> None:
        """Items start, start + 1, ... with these scores, which are copied where they are kept."""
        passing = scores > self._bar
        if allowed is not None:
            passing &= allowed
        hits = np.flatnonzero(passing)
        self._index.append(hits + start)
        self._score.append(scores[hits])
        self._held += len(hits)
        if self._held >= 2 * self._k:  # a higher bar is worth a selection, once in k arrivals
            self._settle()

    def best(self) -> tuple[Int32, Float32]:
        index, score = np.concatenate(self._index), np.concatenate(self._score)
        place, best = top_k(score, self._k)
        return index[place].astype(np.int32), best

    def _settle(self) -> None:
        index, score = np.concatenate(self._index), np.concatenate(self._score)
        place, best = top_k(score, self._k)
        place.sort()
        self._bar = best[-1]
        self._index, self._score, self._held = [index[place]], [score[place]], len(place)
