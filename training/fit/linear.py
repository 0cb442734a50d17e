"""The matrices of the closed-form item-to-item models (`training.models.linear`), from event sequences."""

from __future__ import annotations

import numpy as np
import torch

from training.models.arrays import Float32, Int32, Int64

_CHUNK_BYTES = 64 << 20
"""Of the users x items matrix held at once."""

HALF_LIFE, FUTURE = 3.0, 0.8
"""Of the sequential fit: events after which one of a prefix counts half, and what each further step ahead is
worth of the one before it."""

_FIT_HISTORY = 1024
"""Newest events of a user that the sequential fit reads: work grows with their square."""


def fit_ease(offsets: Int64, item_index: Int32, n_items: int, regularisation: float = 700.0) -> Float32:
    """EASE: B = argmin ||X - XB||² + λ||B||² with a zero diagonal, X[u, i] = 1 where user u met item i.

    Args:
        offsets, item_index: int64 [u + 1] and int32 [e], the users' sequences one after another.
        regularisation: λ, events; 700 was best of 200 to 2,000 on MovieLens-100K's validation events.

    Returns:
        float32 [n, n], a `LinearItemModel`'s weights.
    """
    gram = torch.zeros(n_items, n_items)
    users = max(1, _CHUNK_BYTES // (4 * n_items))
    for start in range(0, len(offsets) - 1, users):
        ends = offsets[start : start + users + 1]
        met = torch.zeros(len(ends) - 1, n_items)
        rows = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
        met[torch.from_numpy(rows), torch.from_numpy(item_index[ends[0] : ends[-1]].astype(np.int64))] = 1
        gram.addmm_(met.T, met)
    gram.diagonal().add_(regularisation)
    precision = torch.cholesky_inverse(torch.linalg.cholesky(gram))
    weights = -precision / precision.diagonal()
    weights.fill_diagonal_(0)
    return weights.contiguous().numpy()


def fit_sequential(
    offsets: Int64,
    item_index: Int32,
    n_items: int,
    regularisation: float = 300.0,
    half_life: float = HALF_LIFE,
    future: float = FUTURE,
) -> Float32:
    """Ridge regression S = (X'X + λI)⁻¹ X'Y with one row per proper prefix of every sequence.

    X[prefix, i] = 0.5 ** (lag of item i / half_life), Y[prefix, j] = future ** (steps from the prefix to
    item j, less 1); an item met twice adds up. X'X and X'Y are sums of one small block a user.

    Args: as `fit_ease`.

    Returns:
        float32 [n, n]. Unlike EASE's, its diagonal is not zero: an item may well follow itself.
    """
    gram, cross = (np.zeros((n_items, n_items), np.float32) for _ in range(2))
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        sequence = item_index[max(start, end - _FIT_HISTORY) : end]
        if len(sequence) < 2:
            continue
        items, past, ahead = _prefixes(sequence, half_life, future)
        block = np.ix_(items, items)
        gram[block] += past.T @ past
        cross[block] += past.T @ ahead
    penalised = torch.from_numpy(gram)
    penalised.diagonal().add_(regularisation)
    weights = torch.cholesky_solve(torch.from_numpy(cross), torch.linalg.cholesky(penalised))
    return weights.contiguous().numpy()


def _prefixes(sequence: Int32, half_life: float, future: float) -> tuple[Int32, Float32, Float32]:
    """One user's distinct items [k], and their columns of X and of Y, float32 [events - 1, k] each."""
    events = np.arange(len(sequence))
    lag = np.subtract.outer(events[:-1], events).astype(np.float32)
    past = np.where(lag >= 0, np.exp2(-np.maximum(lag, 0) / half_life), 0).astype(np.float32)
    ahead = np.where(lag < 0, future ** (np.maximum(-lag, 1) - 1), 0).astype(np.float32)
    by_item = np.argsort(sequence, kind="stable")
    items, first = np.unique(sequence[by_item], return_index=True)
    past, ahead = (np.add.reduceat(columns[:, by_item], first, axis=1) for columns in (past, ahead))
    return items, past, ahead
