"""What a user did, as a query carries it: read from events by what the bundle says that they mean.

The events of a session and those of an online row become the same thing here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serving.types import NO_ITEMS, Float32, Float64, History, Int32
from training.feedback import Feedback
from training.past import newest


@dataclass(frozen=True, slots=True)
class Past:
    """The fields of a query of the same names."""

    history: History
    met: Int32
    disliked: Int32

    @staticmethod
    def nothing() -> Past:
        return _NOTHING


_NOTHING = Past(History.empty(), NO_ITEMS, NO_ITEMS)
_NO_VALUES: Float32 = np.empty(0, np.float32)


def past(
    feedback: Feedback,
    item_index: Int32,
    value: Float32,
    timestamp: Float64,
    older_items: Int32 = NO_ITEMS,
    older_values: Float32 = _NO_VALUES,
) -> Past:
    """Args:
    item_index, value, timestamp: of events [h], oldest first; a negative index is an item that the catalogue
        does not hold.
    older_items, older_values: items whose every event came before these, each once, and their newest values.
    """
    known = item_index >= 0
    item_index, value, timestamp = item_index[known], value[known], timestamp[known]
    liked = feedback.likes(value)
    if liked.all() and feedback.likes(older_values).all():  # nearly always
        return Past(History(item_index, value, timestamp), older_items, NO_ITEMS)
    items, last = newest(item_index, value)
    return Past(
        History(item_index[liked], value[liked], timestamp[liked]),
        np.unique(np.concatenate((item_index[~liked], older_items))),
        np.concatenate((items[~feedback.likes(last)], older_items[~feedback.likes(older_values)])),
    )
