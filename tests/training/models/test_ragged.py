"""Rows of different length behave as a list of arrays does."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.models.ragged import Ragged, heads, ranked

ROWS = st.lists(st.lists(st.integers(-5, 5), max_size=6), max_size=6)


def ragged(rows: list[list[int]]) -> Ragged[np.int32]:
    return Ragged.of([np.array(row, np.int32) for row in rows], np.int32)


def lists(found: Ragged[np.int32]) -> list[list[int]]:
    return [row.tolist() for row in found]


@given(ROWS, st.data())
def test_rows_are_taken_as_from_a_list(rows: list[list[int]], data: st.DataObject) -> None:
    found = ragged(rows)
    assert lists(found) == rows
    assert found.lengths.tolist() == list(map(len, rows))
    assert found.row.tolist() == [i for i, row in enumerate(rows) for _ in row]
    picked = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8)) if rows else []
    assert lists(found.take(np.array(picked, np.int64))) == [rows[i] for i in picked]


@given(ROWS, st.integers(1, 7))
def test_the_newest_of_every_row(rows: list[list[int]], length: int) -> None:
    found = ragged(rows)
    newest = [(row[::-1] + [99] * length)[:length] for row in rows]
    assert found.padded(length, 99).tolist() == newest


@given(ROWS, st.integers(0, 7))
def test_the_best_of_every_row(rows: list[list[int]], count: int) -> None:
    found = ragged(rows)
    order = ranked(found.row, found.values.astype(np.float32))
    best = Ragged(found.values[order], found.row_splits)
    assert lists(best) == [sorted(row, reverse=True) for row in rows]
    first = best.values[heads(best.row_splits, count)]
    assert first.tolist() == [value for row in lists(best) for value in row[:count]]
