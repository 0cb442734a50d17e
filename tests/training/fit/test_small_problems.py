from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.models.worlds import N_ITEMS, sequences
from training.fit import small_problems as module
from training.fit.neighbours import fit_markov_field, fit_successors, neighbourhoods
from training.fit.small_problems import blocks
from training.models.arrays import Float32, Float64, Int32
from training.models.ragged import Items, Ragged


def numbered(of: Int32) -> Float64:
    """Weights that say which problem they are of: its first item, its size, row and column."""
    row, column = np.indices((len(of), len(of)))
    found: Float64 = np.where(row == column, 0.0, 1e6 * of[0] + 1e4 * len(of) + 100.0 * row + column)
    return found


def patterns() -> st.SearchStrategy[Items]:
    rows = st.lists(st.lists(st.integers(0, 11), max_size=6, unique=True), min_size=12, max_size=12)
    return rows.map(
        lambda each: Ragged.of(
            [np.array([o for o in row if o != item], np.int32) for item, row in enumerate(each)], np.int32
        )
    )


@given(patterns(), st.sampled_from([0.0, 0.3, 1.0]))
def test_each_item_with_neighbours_is_predicted_by_one_problem(pattern: Items, share: float) -> None:
    found, weights = module.solved(pattern, numbered, share, most=12)
    of_target: dict[int, set[int]] = {}
    for source, target, weight in zip(
        found.row.tolist(), found.values.tolist(), weights.tolist(), strict=True
    ):
        centre, size = int(weight // 1e6), int(weight % 1e6 // 1e4)
        assert size == len(pattern[centre]) + 1
        assert {source, target} <= {centre, *pattern[centre].tolist()}
        of_target.setdefault(target, set()).add(centre)
    assert all(len(centres) == 1 for centres in of_target.values())
    with_neighbours = np.flatnonzero(pattern.lengths > 0).tolist()
    assert set(of_target) == set(with_neighbours)


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 15))
def test_blocks_are_all_rows_with_no_more_values_than_allowed(lengths: list[int], most: int) -> None:
    row_splits = np.concatenate([[0], np.cumsum(np.array(lengths, np.int64))]).astype(np.int64)
    found = list(blocks(row_splits, most))
    assert [row for begin, end in found for row in range(begin, end)] == list(range(len(lengths)))
    for begin, end in found:
        assert row_splits[end] - row_splits[begin] <= most or end == begin + 1


@pytest.mark.parametrize("fit", [fit_markov_field, fit_successors])
def test_other_processes_find_the_same_weights(
    fit: Callable[..., tuple[Items, Float32]], monkeypatch: pytest.MonkeyPatch
) -> None:
    offsets, items = sequences(np.random.default_rng(7))
    pattern = neighbourhoods(offsets, items, N_ITEMS, 2.0, 6, evidence=1)
    here, alone = fit(offsets, items, pattern, 2.0)
    monkeypatch.setattr(module, "APART", 1)
    monkeypatch.setattr(module, "TASK_PROBLEMS", 3)
    monkeypatch.setattr(module, "cpu_count", lambda: 2)
    there, apart = fit(offsets, items, pattern, 2.0)
    np.testing.assert_array_equal(there.values, here.values)
    np.testing.assert_array_equal(there.row_splits, here.row_splits)
    np.testing.assert_array_equal(apart, alone)
