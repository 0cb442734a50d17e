from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.training.models.worlds import (
    N_ITEMS,
    NOW,
    USER_WIDTH,
    floats,
    history,
    linear,
    scorer,
    statistics,
)
from training.models.ranking_features import LONG_HALF_LIFE, LONG_HISTORY, RankingFeatures

seeds = st.integers(0, 10_000)


@given(seeds, st.integers(0, 12))
def test_columns_are_the_models_own_scores(seed: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    tower, ease, sequential, known = scorer(rng), linear(rng), linear(rng, 2.0), statistics(rng)
    past, user, items = history(rng, length), floats(rng, USER_WIDTH), history(rng, 9)
    rows = RankingFeatures(tower, ease, sequential, known).compute(past, user, NOW, items)
    table = known.at(NOW)
    expected = {
        "two_tower": tower.logits(past, user),
        "ease": ease.score(past),
        "sequential": sequential.score(past),
        "ease_long": replace(ease, half_life=LONG_HALF_LIFE, history=LONG_HISTORY).score(past),
        "mean_value": table.mean_value,
        "popularity_all": table.popularity_all,
        "popularity_week": table.popularity_week,
        "age": table.age,
        "idle": table.idle,
    }
    assert RankingFeatures.names == tuple(expected)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, np.stack([c[items] for c in expected.values()], 1), atol=1e-4)


@given(seeds, st.lists(st.integers(0, N_ITEMS - 1), max_size=12))
def test_pointwise(seed: int, chosen: list[int]) -> None:
    """Any subset in any order gets the same rows."""
    rng = np.random.default_rng(seed)
    features = RankingFeatures(scorer(rng), linear(rng), linear(rng), statistics(rng))
    past, subset = history(rng, 10), np.array(chosen, np.int32)
    every = features.compute(past, None, NOW, np.arange(N_ITEMS, dtype=np.int32))
    np.testing.assert_allclose(features.compute(past, None, NOW, subset), every[subset], atol=1e-5)


@given(seeds, st.lists(st.integers(0, 12), min_size=1, max_size=4))
def test_of_several_users_each_has_their_own_rows(seed: int, lengths: list[int]) -> None:
    rng = np.random.default_rng(seed)
    features = RankingFeatures(scorer(rng), linear(rng), linear(rng), statistics(rng))
    pasts = [history(rng, length) for length in lengths]
    users = [floats(rng, USER_WIDTH) if rng.random() < 0.5 else None for _ in lengths]
    row = np.sort(rng.integers(0, len(lengths), 9))
    items = history(rng, 9)
    together = features.compute_rows(pasts, users, NOW, row, items)
    assert together.dtype == np.float32
    for at in range(9):
        alone = features.compute(pasts[row[at]], users[row[at]], NOW, items[at : at + 1])
        np.testing.assert_allclose(together[at : at + 1], alone, atol=1e-4)
