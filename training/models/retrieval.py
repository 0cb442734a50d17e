"""Candidate generation by the base models, for several users at once.

Serving's sources ask the same functions one source at a time; a test holds both equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from training.models.arrays import Float32, Float64, Mask
from training.models.ragged import Items, Ragged, heads, ranked, splits
from training.models.scores import Scores
from training.models.statistics import ItemStatistics

SOURCES = ("two_tower", "ease", "sequential", "popular")

Retrieved = tuple[Items, Float32]
"""Items of each user, best first, and their scores on the source's own scale."""


@dataclass(frozen=True, slots=True)
class Eligible:
    """The items that may be recommended to each of b users.

    Attributes:
        masks: bool [f, n], the distinct masks.
        mask_of: int [b], which of them each user has.
        hidden: items besides that a user may not be shown; a negative index names no item.
    """

    masks: Mask
    mask_of: np.ndarray
    hidden: Items

    @staticmethod
    def all_but(hidden: Items, mask: Mask) -> Eligible:
        """One mask, bool [n], for all users."""
        return Eligible(mask[None], np.zeros(len(hidden), np.int64), hidden)

    def of(self, scores: Float32) -> Float32:
        """float32 [b, n], a copy: -inf where an item may not be recommended, or has no score (NaN)."""
        free = self.masks[self.mask_of] if len(self.masks) > 1 else self.masks
        found = np.where(free & (scores > -np.inf), scores, np.float32(-np.inf))
        known = self.hidden.values >= 0
        found[self.hidden.row[known], self.hidden.values[known]] = -np.inf
        return found

    def mask(self, row: int) -> Mask:
        """bool [n]: of one user; a copy."""
        free: Mask = self.masks[self.mask_of[row]].copy()
        hidden = self.hidden[row]
        free[hidden[hidden >= 0]] = False
        return free

    def allows(self, candidates: Items) -> Mask:
        """bool [m]: whether each candidate may be recommended to its user."""
        row, items = candidates.row, candidates.values
        free: Mask = self.masks[self.mask_of[row], items]
        n = self.masks.shape[1]
        known = self.hidden.values >= 0
        hidden = np.sort((self.hidden.row * n + self.hidden.values)[known])
        key = row * n + items
        place = np.searchsorted(hidden, key)
        found = np.zeros(len(key), bool)
        inside = place < len(hidden)
        found[inside] = hidden[place[inside]] == key[inside]
        return free & ~found


def retrieve(
    scores: Scores, statistics: ItemStatistics, now: Float64, eligible: Eligible, sizes: Mapping[str, int]
) -> dict[str, Retrieved]:
    """What each source retrieves. For a user without a history only "popular" retrieves anything.

    Args:
        scores: of b users.
        now: float64 [b], unix seconds.
        sizes: source → items at most; a source that is not named is not asked.
    """
    return {
        name: popular(statistics, now, eligible, sizes[name])
        if name == "popular"
        else personal(scores, name, eligible, sizes[name])
        for name in SOURCES
        if name in sizes
    }


def personal(scores: Scores, name: str, eligible: Eligible, k: int) -> Retrieved:
    """A model's best for each user who has a history."""
    of_all = eligible.of(scores.of_all(name))
    of_all[scores.histories.lengths == 0] = -np.inf
    return top_k(of_all, k)


def popular(statistics: ItemStatistics, now: Float64, eligible: Eligible, k: int) -> Retrieved:
    """What everybody chooses lately, at each user's moment."""
    of_all = np.empty((len(now), statistics.n_items), np.float32)
    for users, table in statistics.of_days(now):
        of_all[users] = table.popularity_month
    return top_k(eligible.of(of_all), k)


def top_k(scores: Float32, k: int) -> Retrieved:
    """The `k` highest of every row, best first, ties by lower index.

    Args:
        scores: float32 [b, n]; -inf is no score. No NaN.
    """
    b, n = scores.shape
    if not min(k, n):
        return Ragged.empty(b, np.int32), np.empty(0, np.float32)
    floor = np.full(b, -np.inf, np.float32)
    if k < n:  # only what reaches the k-th value is worth sorting
        floor = np.partition(scores, n - k, axis=1)[:, n - k]
    row, item = ((scores >= floor[:, None]) & (scores > -np.inf)).nonzero()
    value = scores[row, item]
    order = ranked(row, value)
    row_splits = splits(np.bincount(row, minlength=b))
    best = order[heads(row_splits, k)]
    lengths = np.minimum(row_splits[1:] - row_splits[:-1], k)
    return Ragged(item[best].astype(np.int32), splits(lengths)), value[best]
