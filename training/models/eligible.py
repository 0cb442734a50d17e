"""What may be recommended to each of several users, and the best of what may.

Does not belong here: where scores come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.models.arrays import Float32, Int64, Mask
from training.models.ragged import Items, Ragged, heads, ranked, splits

Retrieved = tuple[Items, Float32]
"""Items of each user, best first, and their scores on the source's own scale."""


@dataclass(frozen=True, slots=True)
class Eligible:
    """The items that may be recommended to each of b users.

    Attributes:
        masks: bool [n] each, the distinct masks; shared, never written.
        mask_of: int [b], which of them each user has.
        hidden: items besides that a user may not be shown; a negative index names no item.
    """

    masks: Sequence[Mask]
    mask_of: NDArray[np.integer[Any]]
    hidden: Items

    @staticmethod
    def all_but(hidden: Items, mask: Mask) -> Eligible:
        """One mask, bool [n], for all users."""
        return Eligible((mask,), np.zeros(len(hidden), np.int64), hidden)

    def of(self, scores: Float32) -> Float32:
        """float32 [b, n], a copy: -inf where an item may not be recommended, or has no score (NaN)."""
        free = self.masks[0]
        if len(self.masks) > 1:
            free = np.empty(scores.shape, np.bool_)
            for row, mask in enumerate(self.mask_of.tolist()):
                free[row] = self.masks[mask]
        found = np.where(free & (scores > -np.inf), scores, np.float32(-np.inf))
        known = self.hidden.values >= 0
        found[self.hidden.row[known], self.hidden.values[known]] = -np.inf
        return found

    def matching(self, row: int) -> Mask:
        """bool [n], read-only: what one user's filter allows, hidden items among it."""
        mask: Mask = self.masks[self.mask_of[row]]
        return mask

    def take(self, rows: Int64) -> Eligible:
        """Of these users, in this order."""
        return Eligible(self.masks, np.asarray(self.mask_of)[rows], self.hidden.take(rows))

    def allows(self, candidates: Items) -> Mask:
        """bool [m]: whether each candidate may be recommended to its user. Costs nothing for other items."""
        row, items = candidates.row, candidates.values
        free = np.empty(len(items), np.bool_)
        which = np.asarray(self.mask_of)[row]
        for number, mask in enumerate(self.masks):
            here = slice(None) if len(self.masks) == 1 else which == number
            free[here] = mask[items[here]]
        known = self.hidden.values >= 0
        hidden = np.sort((self.hidden.row << 32 | self.hidden.values)[known])
        key = row << 32 | items
        place = np.searchsorted(hidden, key)
        found = np.zeros(len(key), bool)
        inside = place < len(hidden)
        found[inside] = hidden[place[inside]] == key[inside]
        return free & ~found


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
    return best_of(Ragged(item.astype(np.int32), splits(np.bincount(row, minlength=b))), scores[row, item], k)


def best_of(items: Items, score: Float32, k: int) -> Retrieved:
    """The `k` highest of each user's items, best first, ties as they stand."""
    order = ranked(items.row, score)
    best = order[heads(items.row_splits, k)]
    return Ragged(items.values[best], splits(np.minimum(items.lengths, k))), score[best]


def eligible_best(items: Items, score: Float32, eligible: Eligible, k: int) -> Retrieved:
    """`best_of` those items that may be recommended."""
    allowed = eligible.allows(items)
    row_splits = splits(np.bincount(items.row[allowed], minlength=len(items)))
    return best_of(Ragged(items.values[allowed], row_splits), score[allowed], k)
