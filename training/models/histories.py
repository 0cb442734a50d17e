"""From event sequences to the rectangles that batched training reads. Pure numpy, no loop over events.

Sequences of all users lie in one array: user i's items are `item_index[offsets[i]:offsets[i + 1]]`, oldest
first. An *event* is a position in that array: predict the item there from what its user did before it.
"""

from __future__ import annotations

import numpy as np

from training.models.arrays import Int32, Int64
from training.models.ragged import newest_first


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
    starts = offsets[np.searchsorted(offsets, events, side="right") - 1]
    return newest_first(item_index, starts, events, length, padding).astype(np.int64)
