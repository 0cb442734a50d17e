"""Shapley values against their definition, order by order, and by the axioms that define them."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.models.worlds import floats
from training.models import shapley as module
from training.models.arrays import Float32
from training.models.shapley import MOST_FEATURES, shapley

seeds, widths = st.integers(0, 10_000), st.integers(1, 4)


def tangled(rows: Float32) -> Float32:
    """Every feature multiplies another."""
    found: Float32 = np.sin(rows).prod(1) + (rows * np.roll(rows, 1, axis=1)).sum(1)
    return found.astype(np.float32)


def by_orders(rows: Float32, baseline: Float32) -> Float32:
    f = rows.shape[1]
    found = np.zeros(rows.shape)
    orders = list(permutations(range(f)))
    for order in orders:
        mixed = np.tile(baseline, (len(rows), 1))
        for feature in order:
            before = tangled(mixed)
            mixed[:, feature] = rows[:, feature]
            found[:, feature] += tangled(mixed) - before
    return (found / len(orders)).astype(np.float32)


@given(seeds, widths, st.integers(0, 5))
def test_each_value_is_the_mean_over_all_orders(seed: int, f: int, c: int) -> None:
    rng = np.random.default_rng(seed)
    rows, baseline = floats(rng, c, f), floats(rng, f)
    np.testing.assert_allclose(
        shapley(tangled, rows, baseline), by_orders(rows, baseline), rtol=1e-5, atol=1e-5
    )


@given(seeds, st.integers(1, 7), st.integers(1, 5))
def test_values_add_up_and_a_feature_without_effect_has_none(seed: int, f: int, c: int) -> None:
    rng = np.random.default_rng(seed)
    rows, baseline = floats(rng, c, f + 1), floats(rng, f + 1)
    found = shapley(lambda rows: tangled(rows[:, :f]), rows, baseline)
    whole = tangled(rows[:, :f]) - tangled(baseline[None, :f])
    np.testing.assert_allclose(found.sum(1), whole, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found[:, f], 0, rtol=1e-5, atol=1e-5)


def test_parts_are_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows, baseline = floats(rng, 7, 3), floats(rng, 3)
    expected = shapley(tangled, rows, baseline)
    monkeypatch.setattr(module, "ROWS", 17)
    np.testing.assert_array_equal(shapley(tangled, rows, baseline), expected)


def test_too_many_features_are_refused() -> None:
    with pytest.raises(ValueError, match="8,192 subsets"):
        shapley(
            tangled, np.zeros((1, MOST_FEATURES + 1), np.float32), np.zeros(MOST_FEATURES + 1, np.float32)
        )
