from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.training.models.worlds import (
    LENGTHS,
    N_ITEMS,
    NOW,
    USER_WIDTH,
    alone,
    base_models,
    floats,
    history,
    moments,
    one,
    ragged,
)
from training.models.arrays import Float32
from training.models.ragged import Items
from training.models.ranking_features import NAMES, ranking_features
from training.models.scores import BaseModels, Scores

seeds = st.integers(0, 10_000)


def rows_of(models: BaseModels, past: Items, user: Float32, now: float, items: Items) -> Float32:
    """Of one user."""
    return ranking_features(Scores(models, past, user), models.statistics, np.array([now]), items)


@given(seeds, st.integers(0, 12))
def test_columns_are_the_models_own_scores(seed: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    models, past, user = base_models(rng), one(*history(rng, length)), floats(rng, 1, USER_WIDTH)
    items = history(rng, 9)
    rows = rows_of(models, past, user, NOW, one(*items))
    tower, table = models.two_tower, models.statistics.at(NOW)
    expected = {
        "two_tower": tower.scale * tower.item_vectors @ tower.user_vectors(past, user)[0],
        "ease": models.linear["ease"].scores(past)[0],
        "sequential": models.linear["sequential"].scores(past)[0],
        "ease_long": models.linear["ease_long"].scores(past)[0],
        "mean_value": table.mean_value,
        "popularity_all": table.popularity_all,
        "popularity_week": table.popularity_week,
        "age": table.age,
        "idle": table.idle,
    }
    assert tuple(expected) == NAMES
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, np.stack([c[items] for c in expected.values()], 1), atol=1e-4)


@given(seeds, st.lists(st.integers(0, N_ITEMS - 1), max_size=12))
def test_pointwise(seed: int, chosen: list[int]) -> None:
    """Any subset in any order gets the same rows."""
    rng = np.random.default_rng(seed)
    models, past = base_models(rng), one(*history(rng, 10))
    nobody = np.zeros((1, USER_WIDTH), np.float32)
    every = rows_of(models, past, nobody, NOW, one(*range(N_ITEMS)))
    subset = rows_of(models, past, nobody, NOW, one(*chosen))
    np.testing.assert_allclose(subset, every[chosen], atol=1e-5)


@given(seeds, LENGTHS)
def test_a_batch_equals_its_singles(seed: int, lengths: list[int]) -> None:
    """Users of several days, some without a history, some without candidates."""
    rng = np.random.default_rng(seed)
    models, pasts, users = base_models(rng), ragged(rng, lengths), floats(rng, len(lengths), USER_WIDTH)
    candidates = ragged(rng, rng.permutation(lengths).tolist())
    now = moments(rng, len(lengths))
    rows = ranking_features(Scores(models, pasts, users), models.statistics, now, candidates)
    assert rows.dtype == np.float32
    assert rows.shape == (len(candidates.values), len(NAMES))
    for row in range(len(lengths)):
        single = rows_of(models, alone(pasts, row), users[row : row + 1], now[row], alone(candidates, row))
        np.testing.assert_allclose(rows[candidates.row == row], single, atol=1e-4)
