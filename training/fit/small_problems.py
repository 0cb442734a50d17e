"""A matrix of few weights a row, column by column: one small dense problem after another, on all cores.

Steck, "Markov Random Fields for Collaborative Filtering", NeurIPS 2019, section 3.2: an item and its
neighbours are one problem, which also serves the nearest of these. Does not belong here: who is whose
neighbour, and what a problem's weights are (`training.fit.neighbours`).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
from joblib import Parallel, cpu_count, delayed
from scipy.sparse import csr_array

from training.models.arrays import Float32, Float64, Int32, Int64, Mask
from training.models.ragged import Items, Ragged, heads, splits

PROCESSES = 8
"""At most, of the cores there are: each holds NumPy and SciPy, 100 MB."""

APART = 20_000
"""Items from which processes are started, which takes seconds."""

TASK_PROBLEMS = 500
"""Problems of a task, half a second of work."""

IDLE_S = 5
"""After which processes without work end, so that what follows has their memory."""

SORTED_WEIGHTS = 8 << 20
"""Weights that are sorted at once, 0.3 GB while they are."""

Solve = Callable[[Int32], Float64]
"""Weights among these items [d]: float64 [d, d], column j for predicting item j."""

Problem = tuple[Int32, Int64]
"""Items [d], and places among them of those that it predicts."""

Weights = tuple[Int32, Int32, Float32]
"""Sources, targets and weights [m]."""


def solved(pattern: Items, weights: Solve, share: float, most: int) -> tuple[Items, Float32]:
    """Each item predicted from itself and its neighbours.

    Args:
        pattern: neighbours of each item, nearest first.
        weights: is sent to other processes where there are many items.
        share: of an item's neighbours, the nearest, which its problem predicts as well.
        most: weights of a source that are kept, the heaviest.

    Returns:
        For each item those that it speaks for, ascending, and the weights, float32 [m].
    """
    return _heaviest(_predicted(pattern, weights, share), most)


def _predicted(pattern: Items, weights: Solve, share: float) -> csr_array:
    n = len(pattern)
    processes = min(cpu_count(), PROCESSES) if n >= APART else 1
    run = Parallel(n_jobs=processes, return_as="generator", idle_worker_timeout=IDLE_S)
    problems = _problems(pattern, share)
    tasks = iter(lambda: list(islice(problems, TASK_PROBLEMS)), [])
    sources, targets, values = array("i"), array("i"), array("f")  # tens of millions, a task's at a time
    for source, target, value in run(delayed(_weights)(weights, task) for task in tasks):
        sources.frombytes(source.tobytes())
        targets.frombytes(target.tobytes())
        values.frombytes(value.tobytes())
    where = np.frombuffer(sources, np.int32), np.frombuffer(targets, np.int32)
    return csr_array((np.frombuffer(values, np.float32), where), shape=(n, n))


def _problems(pattern: Items, share: float) -> Iterator[Problem]:
    """Those with most neighbours first, until each item has been predicted."""
    done: Mask = pattern.lengths == 0
    for item in np.argsort(-pattern.lengths, kind="stable").tolist():
        if done[item]:
            continue
        nearest = pattern[item]
        of = np.concatenate((np.array([item], np.int32), nearest))
        mine = np.flatnonzero(~done[of[: 1 + int(np.ceil(share * len(nearest)))]])
        done[of[mine]] = True
        yield of, mine


def _weights(solve: Solve, problems: list[Problem]) -> Weights:
    """Of all that these problems predict, without zeros."""
    sources, targets, values = [], [], []
    for of, mine in problems:
        columns = solve(of)[:, mine]
        row, column = np.nonzero(columns)
        sources.append(of[row])
        targets.append(of[mine[column]])
        values.append(columns[row, column].astype(np.float32))
    return np.concatenate(sources), np.concatenate(targets), np.concatenate(values)


def _heaviest(weights: csr_array, most: int) -> tuple[Items, Float32]:
    """Of each row the columns of its heaviest weights, ascending, and these."""
    weights.sort_indices()
    row_splits = weights.indptr.astype(np.int64)

    def kept(block: tuple[int, int]) -> Int64:
        begin, end = block
        within = row_splits[begin : end + 1] - row_splits[begin]
        value = weights.data[row_splits[begin] : row_splits[end]]
        order = np.lexsort((-np.abs(value), np.repeat(np.arange(end - begin), np.diff(within))))
        places: Int64 = row_splits[begin] + np.sort(order[heads(within, most)])
        return places

    found = map(kept, blocks(row_splits, SORTED_WEIGHTS))
    places = np.concatenate([np.empty(0, np.int64), *found])
    items = Ragged(weights.indices[places], splits(np.minimum(np.diff(row_splits), most)))
    return items, weights.data[places]


def blocks(row_splits: Int64, most: int) -> Iterator[tuple[int, int]]:
    """Runs of rows with at most so many values each, but for one that has more alone."""
    begin = 0
    while begin < len(row_splits) - 1:
        end = max(begin + 1, int(np.searchsorted(row_splits, row_splits[begin] + most, side="right")) - 1)
        yield begin, end
        begin = end
