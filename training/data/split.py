"""Which interactions to train on, to choose by and to report. Pure functions of the interactions table.

Times that are equal keep file order everywhere: MovieLens stamps whole sessions with one second, so ties are
common and an unstable sort would move the test set from run to run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

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


def global_temporal(interactions: pa.Table, validation_share: float, test_share: float) -> Split:
    """The newest `test_share` of all events is test, the `validation_share` before it validation.

    Closer to production than leave-one-out: nothing trained on is newer than anything tested on.

    Raises:
        ValueError: a share is negative, or both leave nothing to train on.
    """
    if validation_share < 0 or test_share < 0 or validation_share + test_share >= 1:
        raise ValueError(f"shares {validation_share} and {test_share}: not negative, together below 1")
    order = np.argsort(interactions["timestamp"].to_numpy(), kind="stable")
    test = len(order) - round(len(order) * test_share)
    validation = test - round(len(order) * validation_share)
    return _split(len(order), validation=order[validation:test], test=order[test:])


def _split(rows: int, validation: NDArray[np.int64], test: NDArray[np.int64]) -> Split:
    train = np.ones(rows, bool)
    train[validation] = False
    train[test] = False
    return Split(np.flatnonzero(train), np.sort(validation), np.sort(test))
