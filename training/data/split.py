"""Which interactions to train on, to choose by and to report. Pure functions of the interactions table.

Times that are equal keep file order everywhere: MovieLens stamps whole sessions with one second, so ties are
common and an unstable sort would move the test set from run to run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

HELD_SHARE = 0.1
"""Of all events, in each of the two newest parts of `temporal`."""

MIN_EVENTS = 3
"""Below it a user has nothing left to train on once validation and test have taken theirs."""


@dataclass(frozen=True, slots=True)
class Split:
    """Rows of the interactions table, int64, ascending; together every row once."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def leave_one_out(interactions: pa.Table) -> Split:
    """Each user's last event is test, the one before it validation; the others train.

    Users with fewer than `MIN_EVENTS` events are all in train.
    """
    user = interactions["user_id"].unify_dictionaries().combine_chunks().indices.to_numpy()
    order = np.lexsort((interactions["timestamp"].to_numpy(), user))
    counts = np.bincount(user) if len(user) else np.zeros(0, np.int64)
    sorted_counts = counts[counts > 0]
    ends = np.cumsum(sorted_counts)[sorted_counts >= MIN_EVENTS]
    return _split(len(order), validation=order[ends - 2], test=order[ends - 1])


def temporal(interactions: pa.Table) -> Split:
    """The newest `HELD_SHARE` of all events is test, as much before it validation, the rest trains: what a
    model would have met that was put into service then. Events of one second stay in one part."""
    times = interactions["timestamp"].to_numpy()
    ordered = np.sort(times)
    held = math.ceil(HELD_SHARE * len(times))
    second, first = (ordered[max(0, len(times) - parts * held)] for parts in (1, 2)) if held else (0, 0)
    return _split(
        len(times),
        validation=np.flatnonzero((times >= first) & (times < second)),
        test=np.flatnonzero(times >= second),
    )


SPLITS: Mapping[str, Callable[[pa.Table], Split]] = {"leave_one_out": leave_one_out, "temporal": temporal}
"""By the word of a recipe."""


def _split(rows: int, validation: NDArray[np.int64], test: NDArray[np.int64]) -> Split:
    train = np.ones(rows, bool)
    train[validation] = False
    train[test] = False
    return Split(np.flatnonzero(train), np.sort(validation), np.sort(test))
