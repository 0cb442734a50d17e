"""Rows of different length in one array: histories, candidates, without an object a row.

Row i is `values[row_splits[i]:row_splits[i + 1]]` (as TensorFlow's RaggedTensor).
Does not belong here: what the values mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from training.models.arrays import Int64

D = TypeVar("D", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Ragged(Generic[D]):
    """Attributes:
    values: [m], of any dtype.
    row_splits: int64 [b + 1], ascending from 0 to m.
    """

    values: NDArray[D]
    row_splits: Int64

    @staticmethod
    def of(rows: Sequence[NDArray[D]], dtype: type[D]) -> Ragged[D]:
        """One row after another; the dtype is that of no rows, too."""
        values = np.concatenate([np.empty(0, dtype), *rows]).astype(dtype, copy=False)
        return Ragged(values, splits([len(row) for row in rows]))

    @staticmethod
    def empty(rows: int, dtype: type[D]) -> Ragged[D]:
        """Rows of nothing."""
        return Ragged(np.empty(0, dtype), np.zeros(rows + 1, np.int64))

    def __len__(self) -> int:
        """Rows."""
        return len(self.row_splits) - 1

    def __getitem__(self, row: int) -> NDArray[D]:
        return self.values[self.row_splits[row] : self.row_splits[row + 1]]

    def __iter__(self) -> Iterator[NDArray[D]]:
        return (self[row] for row in range(len(self)))

    @property
    def lengths(self) -> Int64:
        """int64 [b]."""
        return self.row_splits[1:] - self.row_splits[:-1]

    @property
    def row(self) -> Int64:
        """int64 [m]: the row of every value."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def take(self, rows: NDArray[np.integer[Any]]) -> Ragged[D]:
        """These rows, in this order."""
        places, row_splits = places_of(self.row_splits, rows)
        return Ragged(self.values[places], row_splits)

    def padded(self, length: int, padding: D | int | float) -> NDArray[D]:
        """[b, length]: the last values of every row, newest first, then the padding."""
        return newest_first(self.values, self.row_splits[:-1], self.row_splits[1:], length, padding)


def newest_first(
    values: NDArray[D], starts: Int64, ends: Int64, length: int, padding: D | int | float
) -> NDArray[D]:
    """[b, length]: the values before each end, the last one first, back to its start at most; then the
    padding."""
    place = ends[:, None] - 1 - np.arange(length)
    inside = place >= starts[:, None]
    if not len(values):
        return np.full(place.shape, padding, values.dtype)
    return np.where(inside, values[np.where(inside, place, 0)], values.dtype.type(padding))


def splits(lengths: Sequence[int] | NDArray[np.integer[Any]]) -> Int64:
    """int64 [b + 1]: where rows of these lengths begin and end."""
    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    return ends


def ranges(starts: Int64, ends: Int64) -> Int64:
    """int64 [m]: all places from each start up to its end, one after another."""
    lengths = ends - starts
    before = np.cumsum(lengths) - lengths
    places: Int64 = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
    return places


def places_of(row_splits: Int64, rows: NDArray[np.integer[Any]]) -> tuple[Int64, Int64]:
    """Where the values of these rows lie, and the splits of what is taken from there."""
    starts, ends = row_splits[:-1][rows], row_splits[1:][rows]
    return ranges(starts, ends), splits(ends - starts)


def ranked(row: Int64, score: NDArray[np.floating[Any]]) -> Int64:
    """int64 [m]: the order that sorts every row best first, ties as they stand. `row` ascends."""
    order: Int64 = np.lexsort((-score, row))
    return order


def heads(row_splits: Int64, counts: Int64 | int) -> Int64:
    """int64 [m]: the places of the first `counts` values of every row, or of all that it has."""
    starts = row_splits[:-1]
    return ranges(starts, np.minimum(row_splits[1:], starts + counts))


Items = Ragged[np.int32]
"""Items of every row, catalogue indices."""
