"""How good ranked lists are. Pure functions of index arrays; what is of a user is an array over users.

Notation: u users, k places, n items. `ranked` is int [u, at least k], best first, filled up with -1; `hits`
is bool [u, at least k], from `hits(ranked, relevant)`; `relevant` in measures of accuracy is int [u], how
many relevant items each user has. Where a measure says nothing of a user (no relevant item, an empty list)
stands NaN.

Accuracy: Järvelin & Kekäläinen 2002 (NDCG); Manning, Raghavan & Schütze 2008, chapter 8 (precision, recall,
average precision); Voorhees 1999 (reciprocal rank). Beyond it: Ge et al. 2010 (coverage, serendipity);
Ziegler et al. 2005 (intra-list); Vargas & Castells 2011 (novelty); Steck 2018 (calibration); Gunawardana &
Shani 2009 (Gini).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

D = TypeVar("D", bound=np.generic)
Ranked = NDArray[np.integer[Any]]
Hits = NDArray[np.bool_]
Counts = NDArray[np.int64]
PerUser = NDArray[np.float64]

SMOOTHING = 0.01
"""Share of the history's own distribution that is mixed into the list's, so that calibration is finite where
a list lacks a category: Steck's value."""


def hits(ranked: Ranked, relevant: Sequence[Ranked]) -> Hits:
    """bool [u, k]: whether the item at each place is among its user's relevant ones."""
    rows = zip(ranked, relevant, strict=True)
    found = [np.isin(row, wanted) & (row >= 0) for row, wanted in rows]
    return np.array(found, bool).reshape(ranked.shape)


def ndcg(hits: Hits, relevant: Counts, k: int) -> PerUser:
    """DCG@k over the best DCG@k possible, gain 1 a hit, discount 1 / log2(place + 1)."""
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(relevant, k)]
    return _over((_first(hits, k) * discount).sum(1), ideal)


def recall(hits: Hits, relevant: Counts, k: int) -> PerUser:
    """Share of a user's relevant items in the first k places."""
    return _over(_first(hits, k).sum(1), relevant)


def precision(hits: Hits, relevant: Counts, k: int) -> PerUser:
    """Share of the first k places that hold a relevant item."""
    return _over(_first(hits, k).sum(1), np.where(relevant > 0, k, 0))


def hit_rate(hits: Hits, relevant: Counts, k: int) -> PerUser:
    """Whether any of the first k places holds a relevant item: 1 or 0."""
    return _over(_first(hits, k).max(1), relevant > 0)


def average_precision(hits: Hits, relevant: Counts, k: int) -> PerUser:
    """Mean of the precision at each hit of the first k places, over the hits that k places allow; its mean
    over users is MAP@k."""
    first = _first(hits, k)
    at_place = first.cumsum(1) / np.arange(1, k + 1)
    return _over((at_place * first).sum(1), np.minimum(relevant, k))


def reciprocal_rank(hits: Hits, relevant: Counts, k: int) -> PerUser:
    """One over the place of the first hit among k, 0 where there is none; its mean over users is MRR@k."""
    first = _first(hits, k)
    return _over(np.where(first.any(1), 1 / (first.argmax(1) + 1), 0), relevant > 0)


ACCURACY: dict[str, Callable[[Hits, Counts, int], PerUser]] = {
    "ndcg": ndcg,
    "recall": recall,
    "hit rate": hit_rate,
    "map": average_precision,
    "mrr": reciprocal_rank,
    "precision": precision,
}
"""By the name of its mean over users."""


def intra_list_diversity(ranked: Ranked, k: int, vectors: NDArray[np.float32]) -> PerUser:
    """1 - the mean cosine of the pairs within the first k places; of a list of one item nothing.

    Args:
        vectors: float32 [n, d]; a zero vector is like nothing.
    """
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, length, out=np.zeros(vectors.shape), where=length > 0)
    shown = _first(ranked, k)
    present = shown >= 0
    rows = unit[np.where(present, shown, 0)] * present[..., None]  # [u, k, d]
    # The pairs' cosines add up to half of |sum of rows|² less the rows' own squares.
    likeness = np.square(rows.sum(1)).sum(1) - np.square(rows).sum((1, 2))
    count = present.sum(1)
    pairs = count * (count - 1)
    return _over(pairs - likeness, pairs)


def novelty(ranked: Ranked, k: int, counts: Counts, users: int) -> PerUser:
    """Mean self-information, in bits, of what is in the first k places: -log2 of the share of users who
    have met the item.

    Args:
        counts: int [n], users who met each item; an item that nobody met counts as met by one.
        users: all of them.
    """
    bits = -np.log2(np.maximum(counts, 1) / users)
    shown = _first(ranked, k)
    present = shown >= 0
    return _over((bits[np.where(present, shown, 0)] * present).sum(1), present.sum(1))


def serendipity(ranked: Ranked, hits: Hits, k: int, expected: Ranked) -> PerUser:
    """Share of the first k places with a relevant item that a primitive recommender would not have shown.

    Args:
        expected: int [u, at least k], that recommender's lists: the most popular items.
    """
    surprising = np.array(
        [~np.isin(row, usual) for row, usual in zip(_first(ranked, k), _first(expected, k), strict=True)],
        bool,
    ).reshape(len(ranked), k)
    found: PerUser = (_first(hits, k) & surprising).sum(1) / k
    return found


def miscalibration(
    ranked: Ranked, k: int, histories: Sequence[Ranked], shares: NDArray[np.float32]
) -> PerUser:
    """Kullback-Leibler divergence, in nats, of the categories in the first k places from those of the user's
    history: 0 where both are alike.

    Args:
        histories: the items that each user met.
        shares: float32 [n, c], how much of an item each category is, rows adding up to 1; zeros for an item
            without one, which counts nowhere. A user with none in the history, or in the list, has NaN.
    """
    rows = zip(_first(ranked, k), histories, strict=True)
    return np.array([_divergence(shares[past], shares[row[row >= 0]]) for row, past in rows], np.float64)


def _divergence(history: NDArray[np.float32], shown: NDArray[np.float32]) -> float:
    met, given = history.sum(0, dtype=np.float64), shown.sum(0, dtype=np.float64)
    if not met.sum() or not given.sum():
        return float("nan")
    p = met / met.sum()
    q = (1 - SMOOTHING) * given / given.sum() + SMOOTHING * p
    there = p > 0
    return max(0.0, float((p[there] * np.log(p[there] / q[there])).sum()))


def coverage(ranked: Ranked, k: int, n_items: int) -> float:
    """Share of the catalogue that is in at least one user's first k places."""
    shown = _first(ranked, k)
    return len(np.unique(shown[shown >= 0])) / n_items


def gini(ranked: Ranked, k: int, n_items: int) -> float:
    """How unequally the catalogue's items share the first k places of all users: 0 where each has as many,
    near 1 where one has all. 0 where nothing is shown."""
    shown = _first(ranked, k)
    shown = shown[shown >= 0]
    if not len(shown):
        return 0.0
    places = np.sort(np.bincount(np.unique(shown, return_inverse=True)[1]))
    places = np.concatenate([np.zeros(max(0, n_items - len(places)), np.int64), places])
    weights = 2 * np.arange(1, len(places) + 1) - len(places) - 1
    return float((weights * places).sum() / (len(places) * places.sum()))


def mean(per_user: PerUser) -> float:
    """Over the users of whom the measure says something; 0 where that is nobody."""
    known = per_user[~np.isnan(per_user)]
    return float(known.mean()) if len(known) else 0.0


def _over(numerator: NDArray[Any], denominator: NDArray[Any]) -> PerUser:
    above = np.asarray(denominator, np.float64)
    found: PerUser = np.divide(numerator, above, out=np.full(len(above), np.nan), where=above > 0)
    return found


def _first(columns: NDArray[D], k: int) -> NDArray[D]:
    if not 1 <= k <= columns.shape[1]:
        raise ValueError(f"k = {k}: lists have {columns.shape[1]} places")
    return columns[:, :k]
