"""What is measured of lists of recommendations: pure functions over arrays.

Does not belong here: which lists, and what is done with the numbers. Offline evaluation has its own measures
(`training.metrics`), because it knows what the users chose.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from serving.types import Float32, Int32

PSI_BINS = 10
"""Deciles, as is usual; 0.1 is then read as some shift, 0.25 as a large one (Siddiqi 2006, p. 137)."""

HALF = 0.5
"""Added to every bin's count (Jeffreys' prior), so that an empty bin gives a large index and no infinity."""


def population_stability(expected: Float32, actual: Float32) -> float:
    """The population stability index, sum of (a - e) ln(a / e) over the deciles of `expected`, where a and e
    are the shares of both samples in a decile (Siddiqi, Credit Risk Scorecards, 2006). 0 for equal
    distributions; never negative.

    Args:
        expected, actual: float [n] and [m], in any order; what is not finite is left out.

    Raises:
        ValueError: one of them holds nothing finite.
    """
    expected, actual = expected[np.isfinite(expected)], actual[np.isfinite(actual)]
    if not len(expected) or not len(actual):
        raise ValueError("a sample without finite scores has no distribution")
    edges = np.quantile(expected, np.arange(1, PSI_BINS) / PSI_BINS)
    e, a = _shares(expected, edges), _shares(actual, edges)
    return float(np.sum((a - e) * np.log(a / e)))


def _shares(sample: Float32, edges: NDArray[np.floating]) -> NDArray[np.float64]:
    counts = np.bincount(np.searchsorted(edges, sample), minlength=PSI_BINS).astype(np.float64) + HALF
    return counts / (len(sample) + HALF * PSI_BINS)


def coverage(lists: Sequence[Int32], n_items: int) -> float:
    """The share of a catalogue of `n_items` that occurs in the lists, 0 to 1 (catalogue coverage: Ge,
    Delgado-Battenfeld and Jannach 2010). 0 without lists."""
    return len(np.unique(np.concatenate(lists))) / n_items if lists else 0.0


def intra_list_distances(lists: Sequence[Int32], features: Float32) -> NDArray[np.float64]:
    """float64 [l]: of each list the mean of 1 - cosine over all pairs of its items, 0 to 2 (Ziegler et al.
    2005, as a distance). An item without features is at distance 1 from every other.

    Args:
        lists: each int32 [k] with k at least 2.
        features: float32 [n, f]; row i is item i.

    The sum over pairs comes from the length of the sum of unit vectors: O(k f) a list instead of O(k² f).
    """
    sizes = np.array([len(items) for items in lists])
    starts = np.cumsum(sizes) - sizes
    rows = features[np.concatenate(lists)]
    lengths = np.linalg.norm(rows, axis=1)
    unit = rows / np.where(lengths > 0, lengths, 1)[:, None]
    totals = np.add.reduceat(unit, starts, axis=0, dtype=np.float64)
    alone = np.add.reduceat(lengths > 0, starts, dtype=np.intp)
    distances: NDArray[np.float64] = 1 - ((totals**2).sum(axis=1) - alone) / (sizes * (sizes - 1))
    return distances


def overlap(ours: Collection[str], theirs: Collection[str]) -> float:
    """The share of items that two lists have in common, of the longer one: overlap@k for lists of k. 1 for
    two empty lists."""
    longest = max(len(ours), len(theirs))
    return len(set(ours) & set(theirs)) / longest if longest else 1.0
