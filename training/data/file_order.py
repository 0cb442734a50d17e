"""Times for a data set that has none: the order of its rows is the time.

Where a user's rows stand apart from each other, the file is a log, and its rows are spread evenly over the
window. Where every user's rows stand together, the file says nothing across users: each user's rows are
spread evenly over the window. The window is four whole weeks, less than the half-life of popularity, so that
order counts a little, and hours and weekdays come out even and teach nothing. It is long past, so that live
events come after it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

START = 946_857_600
"""Unix seconds of Monday, 2000-01-03: a round number that nobody takes for a measurement."""

SPAN_S = 28 * 86_400

Int64 = NDArray[np.int64]


def times_of_order(user: NDArray[np.integer]) -> Int64:
    """int64 [n] unix seconds that rise with the order of rows, of each user at least.

    Args:
        user: [n], each row's user as a code from 0.
    """
    events = len(user)
    if not events:
        return np.zeros(0, np.int64)
    starts = np.flatnonzero(np.concatenate(([True], user[1:] != user[:-1])))
    users = len(np.unique(user))
    if not 1 < users == len(starts) < events:
        return START + np.arange(events, dtype=np.int64) * SPAN_S // events
    sizes = np.diff(np.concatenate((starts, [events])))
    position = np.arange(events) - np.repeat(starts, sizes)
    return np.asarray(START + (position + 1) * SPAN_S // (np.repeat(sizes, sizes) + 1), np.int64)
