"""Exact top-k over the catalogue: of dense scores, and of inner products with one query vector.

Does not belong here: where vectors come from, and which items a query may see (`serving.filters`).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from serving.types import Float32, Int32, Mask


def top_k(scores: Float32, k: int, allowed: Mask | None = None) -> tuple[Int32, Float32]:
    """The `k` highest of `scores`, best first, ties by lower index.

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
    pool = scores[eligible]
    k = min(k, len(pool))
    if k == 0:
        return np.empty(0, np.int32), np.empty(0, np.float32)
    # The k-th value alone is cheaper to find than the k rows (0.10 against 0.18 ms for 200 of 100,000;
    # torch.topk: 0.22), and settles ties by index, which neither argpartition nor torch.topk does.
    kth = np.partition(pool, len(pool) - k)[len(pool) - k]
    above = np.flatnonzero(pool > kth)
    level = np.flatnonzero(pool == kth)[: k - len(above)]
    best = np.concatenate([above[np.argsort(-pool[above], kind="stable")], level])
    return np.flatnonzero(eligible)[best].astype(np.int32), pool[best]


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


class ExactIndex:
    """Every item is scored, in one pass. One thread, d = 64, k = 200: 0.05 ms for 1,700 items, 0.12 ms for
    10,000, 2 ms for 100,000, 20 ms for a million, nearly all of it the product (torch on CPU: 1.1 to 1.5
    times as long)."""

    def __init__(self, vectors: Float32) -> None:
        """Args:
        vectors: float32 [n, d], row i for item i.

        Raises:
            ValueError: not a float32 matrix, or it holds a NaN or an infinity.
        """
        if vectors.ndim != 2 or vectors.dtype != np.float32:
            raise ValueError(f"vectors must be float32 [n, d], not {vectors.dtype} {list(vectors.shape)}")
        if not np.isfinite(vectors).all():
            raise ValueError("vectors hold a NaN or an infinity")
        self._vectors = np.ascontiguousarray(vectors)

    def search(self, query: Float32, k: int, allowed: Mask | None = None) -> tuple[Int32, Float32]:
        return top_k(self._vectors @ query, k, allowed)
