"""What a user did, read by a `Feedback`: which events are likes, and which items are hidden for what came of
them. The one place for it: training lists, baselines and serving all ask here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.feedback import Feedback, Seen

Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]

NOTHING: Int32 = np.empty(0, np.int32)


def newest(item_index: Int32, value: Float32) -> tuple[Int32, Float32]:
    """The distinct items of events [h], oldest first, ascending, and what each was given last."""
    items, last = np.unique(item_index[::-1], return_index=True)
    return items, value[::-1][last]


def disliked(feedback: Feedback, item_index: Int32, value: Float32) -> Int32:
    """int32, ascending: items whose newest of these events [h], oldest first, is a dislike. Who changed their
    mind is believed."""
    if feedback.disliked is None:
        return NOTHING
    items, last = newest(item_index, value)
    return items[~feedback.likes(last)]


def hidden(seen: Seen, met: Int32, disliked: Int32) -> Int32:
    """Items that may not be recommended to a user who met these and disliked some of them."""
    return met if seen == "exclude" else disliked
