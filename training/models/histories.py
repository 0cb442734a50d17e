"""From event sequences to the rectangles that batched training reads. Pure numpy, no loop over events.

Sequences of all users lie in one array: user i's items are `item_index[offsets[i]:offsets[i + 1]]`, oldest
first. An *event* is a position in that array: predict the item there from what its user did before it.
"""

from __future__ import annotations

import numpy as np

from training.models.arrays import Int32, Int64


def predictable(offsets: Int64) -> Int64:
    """int64 [e], ascending: every event that has one before it."""
    first = offsets[:-1][np.diff(offsets) > 0]
    keep = np.ones(int(offsets[-1]), bool)
    keep[first] = False
    return np.flatnonzero(keep)


def padded(offsets: Int64, item_index: Int32, events: Int64, length: int, padding: int) -> Int64:
    """What each event's user did before it, NEWEST first (column 0 is the event just before).

    Args:
        offsets: int64 [u + 1].
        item_index: int32 [n].
        events: int64 [e], positions in `item_index`, in any order.
        length: columns; older events are left out.
        padding: stands after the oldest event; the number of items, by convention.

    Returns:
        int64 [e, length].
    """
    start = offsets[np.searchsorted(offsets, events, side="right") - 1]
    position = events[:, None] - 1 - np.arange(length)
    inside = position >= start[:, None]
    return np.where(inside, item_index[np.where(inside, position, 0)], padding).astype(np.int64)
