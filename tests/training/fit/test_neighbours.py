from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.models.worlds import N_ITEMS, sequences
from training.fit import neighbours as module
from training.fit.linear import fit_ease, fit_sequential
from training.fit.neighbours import fit_markov_field, fit_successors, neighbourhoods
from training.models.arrays import Float32, Int32, Int64
from training.models.ragged import Items, Ragged

seeds = st.integers(0, 10_000)
EVERY = Ragged.of([np.delete(np.arange(N_ITEMS, dtype=np.int32), item) for item in range(N_ITEMS)], np.int32)
"""Everything is a neighbour of everything."""


def dense(found: tuple[Items, Float32]) -> Float32:
    """Weights as a matrix; neighbours must ascend, none twice."""
    items, weights = found
    matrix = np.zeros((len(items), len(items)), np.float32)
    for row, (begin, end) in enumerate(pairwise(items.row_splits)):
        assert (np.diff(items[row]) > 0).all()
        matrix[row, items[row]] = weights[begin:end]
    return matrix


@given(seeds, st.sampled_from([0.0, 0.5, 1.0]))
def test_where_all_are_neighbours_the_field_is_ease(seed: int, share: float) -> None:
    offsets, items = sequences(np.random.default_rng(seed))
    found = dense(fit_markov_field(offsets, items, EVERY, 2.0, share))
    np.testing.assert_allclose(found, fit_ease(offsets, items, N_ITEMS, 2.0), rtol=1e-5, atol=1e-5)


@given(seeds, st.sampled_from([0.0, 0.5, 1.0]))
def test_where_all_are_neighbours_successors_are_the_sequential_regression(seed: int, share: float) -> None:
    offsets, items = sequences(np.random.default_rng(seed))
    found = dense(fit_successors(offsets, items, EVERY, 2.0, share=share, window=len(items) + 1))
    np.testing.assert_allclose(found, fit_sequential(offsets, items, N_ITEMS, 2.0), rtol=1e-5, atol=1e-4)


@given(seeds, st.integers(1, 8))
def test_an_item_is_predicted_from_its_neighbours_alone(seed: int, most: int) -> None:
    """With a problem for each item: ridge regression of its column on its neighbours' columns."""
    offsets, items = sequences(np.random.default_rng(seed))
    pattern = neighbourhoods(offsets, items, N_ITEMS, 2.0, most, evidence=1)
    found = dense(fit_markov_field(offsets, items, pattern, 2.0, share=0.0))
    met = met_matrix(offsets, items)
    for item in range(N_ITEMS):
        of = pattern[item]
        x, expected = met[:, of], np.zeros(N_ITEMS)
        expected[of] = np.linalg.solve(x.T @ x + 2.0 * np.eye(len(of)), x.T @ met[:, item])
        np.testing.assert_allclose(found[:, item], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pairs", [1, 40, 1 << 20])
@given(seed=seeds, most=st.integers(1, 8), evidence=st.integers(1, 3))
def test_neighbours_are_those_of_the_highest_correlation(
    pairs: int, seed: int, most: int, evidence: int
) -> None:
    """However the items are counted in blocks."""
    offsets, items = sequences(np.random.default_rng(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_PAIRS", pairs)
        found = neighbourhoods(offsets, items, N_ITEMS, 2.0, most, evidence)
    met = met_matrix(offsets, items)
    gram = met.T @ met
    scale = np.sqrt(gram.diagonal() + 2.0)
    correlation = gram / np.outer(scale, scale)
    assert len(found) == N_ITEMS
    for item in range(N_ITEMS):
        others = [o for o in range(N_ITEMS) if o != item and gram[item, o] >= evidence]
        assert set(found[item].tolist()) <= set(others)
        assert len(found[item]) == min(most, len(others))
        nearest = sorted((float(correlation[item, o]) for o in others), reverse=True)[:most]
        np.testing.assert_allclose(correlation[item, found[item]], nearest, rtol=1e-5, atol=1e-6)


def test_an_item_speaks_for_no_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is dropped weighs less than what is kept."""
    offsets, items = sequences(np.random.default_rng(5))
    whole = dense(fit_markov_field(offsets, items, EVERY, 2.0))
    monkeypatch.setattr(module, "NEIGHBOURS", 5)
    few = dense(fit_markov_field(offsets, items, EVERY, 2.0))
    assert (np.count_nonzero(few, axis=1) <= 5).all()
    kept = few != 0
    np.testing.assert_array_equal(few[kept], whole[kept])
    for row in range(N_ITEMS):
        if kept[row].any():
            assert np.abs(whole[row, ~kept[row]]).max() <= np.abs(few[row, kept[row]]).min()


def test_items_that_nobody_met_have_no_neighbours() -> None:
    offsets, items = np.array([0, 2, 4]), np.array([1, 2, 2, 1], np.int32)
    pattern = neighbourhoods(offsets, items, 4, 1.0)
    assert [row.tolist() for row in pattern] == [[], [2], [1], []]
    for fit in (fit_markov_field, fit_successors):
        found, weights = fit(offsets, items, pattern, 1.0)
        assert set(found.row.tolist()) == {1, 2}
        assert np.isfinite(weights).all()


def met_matrix(offsets: Int64, items: Int32) -> np.ndarray:
    met = np.zeros((len(offsets) - 1, N_ITEMS))
    for user, (a, b) in enumerate(pairwise(offsets)):
        met[user, items[a:b]] = 1
    return met
