"""How good ranked lists are. Pure functions of index arrays, means over users.

Notation: u users, k places, n items. `ranked` is int [u, k], best first, filled up with -1; `hits` is bool
[u, k], from `hits(ranked, relevant)`. Accuracy: Järvelin & Kekäläinen 2002 (NDCG).
Beyond it: Ge et al. 2010 (coverage); Ziegler et al. 2005 (intra-list); Vargas & Castells 2011 (novelty).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ranked = NDArray[np.int32] | NDArray[np.int64]
Hits = NDArray[np.bool_]


def hits(ranked: Ranked, relevant: Sequence[Ranked]) -> Hits:
    """bool [u, k]: whether the item at each place is among its user's relevant ones."""
    rows = zip(ranked, relevant, strict=True)
    found = [np.isin(row, wanted) & (row >= 0) for row, wanted in rows]
    return np.array(found, bool).reshape(ranked.shape)


def ndcg(hits: Hits, relevant: NDArray[np.int64], k: int) -> float:
    """Mean of DCG@k over the best DCG@k possible, gain 1 a hit, discount 1 / log2(place + 1).

    Args:
        hits: bool [u, at least k].
        relevant: int [u], how many relevant items each user has; users without any are left out.
    """
    _check(hits, k)
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(relevant, k)]
    return _mean((hits[:, :k] * discount).sum(1), ideal)


def recall(hits: Hits, relevant: NDArray[np.int64], k: int) -> float:
    """Mean share of a user's relevant items in the first k places; arguments as `ndcg`."""
    _check(hits, k)
    return _mean(hits[:, :k].sum(1), relevant)


def coverage(ranked: Ranked, k: int, n_items: int) -> float:
    """Share of the catalogue that is in at least one user's first k places."""
    _check(ranked, k)
    shown = ranked[:, :k]
    return len(np.unique(shown[shown >= 0])) / n_items


def intra_list_diversity(ranked: Ranked, k: int, vectors: NDArray[np.float32]) -> float:
    """Mean over users of 1 - the mean cosine of the pairs within the first k places.

    Args:
        vectors: float32 [n, d]; a zero vector is like nothing. Lists of fewer than two items are left out.
    """
    _check(ranked, k)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, length, out=np.zeros(vectors.shape), where=length > 0)
    present = ranked[:, :k] >= 0
    rows = unit[np.where(present, ranked[:, :k], 0)] * present[..., None]  # [u, k, d]
    # The pairs' cosines add up to half of |sum of rows|² less the rows' own squares.
    likeness = np.square(rows.sum(1)).sum(1) - np.square(rows).sum((1, 2))
    count = present.sum(1)
    pairs = count * (count - 1)
    return _mean(pairs - likeness, pairs)


def novelty(ranked: Ranked, k: int, counts: NDArray[np.int64], users: int) -> float:
    """Mean self-information, in bits, of what is in the first k places: -log2 of the share of users who
    have met the item.

    Args:
        counts: int [n], users who met each item; an item that nobody met counts as met by one.
        users: all of them.
    """
    _check(ranked, k)
    bits = -np.log2(np.maximum(counts, 1) / users)
    present = ranked[:, :k] >= 0
    return _mean((bits[np.where(present, ranked[:, :k], 0)] * present).sum(1), present.sum(1))


def _mean(numerator: NDArray[np.generic], denominator: NDArray[np.generic]) -> float:
    """Mean of the quotients where the denominator is above 0; 0 where it nowhere is."""
    counted = np.asarray(denominator) > 0
    quotients = np.asarray(numerator, np.float64)[counted] / np.asarray(denominator, np.float64)[counted]
    return float(quotients.mean()) if len(quotients) else 0.0


def _check(columns: NDArray[np.generic], k: int) -> None:
    if not 1 <= k <= columns.shape[1]:
        raise ValueError(f"k = {k}: lists have {columns.shape[1]} places")
