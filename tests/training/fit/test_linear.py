from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.models.worlds import N_ITEMS, history, sequences
from training.fit import linear as module
from training.fit.linear import fit_ease, fit_sequential

seeds = st.integers(0, 10_000)


@given(seeds)
def test_ease_is_the_best_zero_diagonal_regression(seed: int) -> None:
    """Column j minimises ||x_j - X b||² + λ||b||² over b with b_j = 0: solved column by column."""
    offsets, items = sequences(np.random.default_rng(seed))
    met = np.zeros((len(offsets) - 1, N_ITEMS))
    for user, (a, b) in enumerate(pairwise(offsets)):
        met[user, items[a:b]] = 1
    weights = fit_ease(offsets, items, N_ITEMS, regularisation=2.0)
    assert not weights.diagonal().any()
    for j in (0, 7, N_ITEMS - 1):
        others = np.delete(np.arange(N_ITEMS), j)
        x = met[:, others]
        best = np.linalg.solve(x.T @ x + 2.0 * np.eye(len(others)), x.T @ met[:, j])
        np.testing.assert_allclose(weights[others, j], best, atol=1e-4)


def test_ease_does_not_depend_on_how_users_are_chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    offsets, items = sequences(np.random.default_rng(1))
    whole = fit_ease(offsets, items, N_ITEMS)
    monkeypatch.setattr(module, "_CHUNK_BYTES", 3 * 4 * N_ITEMS)
    np.testing.assert_allclose(fit_ease(offsets, items, N_ITEMS), whole, atol=1e-7)


@given(seeds)
def test_sequential_equals_the_dense_ridge_regression(seed: int) -> None:
    """Every prefix as a row of its own, repeated items added up."""
    offsets, items = sequences(np.random.default_rng(seed))
    rows_x, rows_y = [], []
    for a, b in pairwise(offsets):
        for cut in range(a + 1, b):
            x, y = np.zeros(N_ITEMS), np.zeros(N_ITEMS)
            for place in range(a, b):
                if place < cut:
                    x[items[place]] += 0.5 ** ((cut - 1 - place) / 3.0)
                else:
                    y[items[place]] += 0.8 ** (place - cut)
            rows_x.append(x)
            rows_y.append(y)
    before, after = (np.array(rows).reshape(-1, N_ITEMS) for rows in (rows_x, rows_y))
    expected = np.linalg.solve(before.T @ before + 5.0 * np.eye(N_ITEMS), before.T @ after)
    found = fit_sequential(offsets, items, N_ITEMS, regularisation=5.0, half_life=3.0, future=0.8)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_long_history_counts_with_its_newest_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIT_HISTORY", 5)
    past = history(np.random.default_rng(2), 12)
    whole = fit_sequential(np.array([0, 12]), past, N_ITEMS)
    np.testing.assert_array_equal(whole, fit_sequential(np.array([0, 5]), past[-5:], N_ITEMS))
