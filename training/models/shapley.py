"""Which feature a score is owed to, exactly, for any function of a few features.

The Shapley value of a feature is the mean, over all orders in which the features could be set from a baseline
row's values to the row's own, of how much setting it changes the score: Shapley 1953; with one baseline,
Sundararajan & Najmi, "The many Shapley values for model explanation", ICML 2020. They add up to the score
less the baseline's; that of a feature which changes nothing is zero; equal features have equal ones.
"""

from __future__ import annotations

from collections.abc import Callable
from math import factorial

import numpy as np

from training.models.arrays import Float32, Float64, Mask

MOST_FEATURES = 12
"""Every row is scored once for each subset of its features: 512 times for 9, 4,096 for 12."""

ROWS = 32_768
"""Rows scored at once: 9 features of them are 1.2 MB."""


def shapley(score: Callable[[Float32], Float32], rows: Float32, baseline: Float32) -> Float32:
    """float32 [c, f]: the share of each feature in `score(rows) - score(baseline)`.

    Args:
        score: float32 [m] of rows [m, f], each by itself.
        rows: float32 [c, f].
        baseline: float32 [f], what a feature is when it is not known.

    Raises:
        ValueError: more features than `MOST_FEATURES`.
    """
    c, f = rows.shape
    if f > MOST_FEATURES:
        raise ValueError(f"{f} features have {2**f:,} subsets: at most {MOST_FEATURES} can be attributed to")
    subsets = (np.arange(2**f)[:, None] >> np.arange(f) & 1).astype(bool)  # [2^f, f]
    weights = _weights(subsets)
    found = np.empty((c, f), np.float32)
    at_once = max(1, ROWS // len(subsets))
    for start in range(0, c, at_once):
        part = rows[start : start + at_once]
        mixed = np.where(subsets, part[:, None], baseline).reshape(-1, f)
        found[start : start + at_once] = score(mixed).reshape(len(part), -1) @ weights
    return found


def _weights(subsets: Mask) -> Float64:
    """[2^f, f]: what the score of each subset counts for each feature: with it for, without it
    against, by the share of all orders in which the others of the subset come before it."""
    f = subsets.shape[1]
    size = subsets.sum(1, keepdims=True)
    before = size - subsets
    # of an order in which n others come before
    share = np.array([factorial(n) * factorial(f - 1 - n) / factorial(f) for n in range(f)] + [0.0])
    counts: Float64 = np.where(subsets, share[before], -share[before])
    return counts
