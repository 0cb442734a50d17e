from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.models.worlds import floats
from training.fit.ranker import RankerSettings, fit_ranker
from training.models.ranker import AdditiveRanker
from training.models.ranking_lists import RankingLists

NAMES = ("wanted", "noise", "constant")


def lists(rng: np.random.Generator, events: int = 300, width: int = 8) -> RankingLists:
    """The item taken is the one with the highest first feature; the second says nothing, the third never
    changes. Lists are filled up with values that would mislead."""
    features = floats(rng, events, width, 3)
    features[..., 2] = 7
    present = np.arange(width) < rng.integers(2, width + 1, events)[:, None]
    best = np.where(present, features[..., 0], -np.inf).argmax(1)
    rows = np.arange(events)
    features[rows, 0], features[rows, best] = features[rows, best].copy(), features[rows, 0].copy()
    features[~present] = 99
    return RankingLists(NAMES, features, present)


SETTINGS = RankerSettings(batch=64, learning_rate=0.1)


def fitted(seed: int = 0) -> AdditiveRanker:
    return fit_ranker(lists(np.random.default_rng(0)), SETTINGS, seed)


@pytest.fixture(scope="module")
def ranker() -> AdditiveRanker:
    return fitted()


def by_hand(knots: np.ndarray, table: np.ndarray, x: float) -> float:
    """The piecewise linear curve, with level ends."""
    if x <= knots[0]:
        return float(table[0])
    for k in range(len(knots) - 1):
        if x <= knots[k + 1]:
            share = (x - knots[k]) / (knots[k + 1] - knots[k])
            return float(table[k] * (1 - share) + table[k + 1] * share)
    return float(table[-1])


@given(st.integers(0, 10_000), st.integers(0, 20))
def test_curves_are_piecewise_linear_and_add_up_to_the_score(
    ranker: AdditiveRanker, seed: int, rows: int
) -> None:
    x = 3 * floats(np.random.default_rng(seed), rows, 3)
    terms, scores = ranker.contributions(x), ranker.score(x)
    assert terms.shape == (rows, 3)
    assert terms.dtype == scores.dtype == np.float32
    expected = [[by_hand(ranker.knots[f], ranker.tables[f], float(row[f])) for f in range(3)] for row in x]
    np.testing.assert_allclose(terms, np.array(expected).reshape(rows, 3), atol=1e-5)
    np.testing.assert_allclose(ranker.bias + terms.sum(1), scores, atol=1e-5)


def test_learns_the_feature_that_matters_and_no_other(ranker: AdditiveRanker) -> None:
    held_out = lists(np.random.default_rng(1))
    scores = np.where(
        held_out.present, ranker.score(held_out.features.reshape(-1, 3)).reshape(300, -1), -np.inf
    )
    assert (scores.argmax(1) == 0).mean() > 0.9
    spans = [float(np.ptp(table)) for table in ranker.tables]
    assert spans[0] > 5 * spans[1] > 5 * spans[2]


def test_terms_are_centred_on_what_is_usual(ranker: AdditiveRanker) -> None:
    world = lists(np.random.default_rng(0))
    rows = world.features[world.present]
    np.testing.assert_allclose(ranker.contributions(rows).mean(0), 0, atol=1e-5)
    assert ranker.bias == pytest.approx(float(ranker.score(rows).mean()), abs=1e-4)


def test_equal_seeds_give_equal_curves_and_others_do_not(ranker: AdditiveRanker) -> None:
    again = fitted()
    for ours, theirs in zip(ranker.tables, again.tables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(ranker.tables[0], fitted(seed=1).tables[0])


def test_filling_changes_nothing(ranker: AdditiveRanker) -> None:
    world = lists(np.random.default_rng(0))
    world.features[~world.present] = -5
    for ours, theirs in zip(fit_ranker(world, SETTINGS).tables, ranker.tables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_equal_after_a_round_trip(ranker: AdditiveRanker) -> None:
    x = floats(np.random.default_rng(2), 50, 3)
    again = AdditiveRanker.from_component(ranker.to_component())
    assert again.names == NAMES
    np.testing.assert_array_equal(again.score(x), ranker.score(x))


@pytest.mark.parametrize("damage", ["nan", "empty"])
def test_lists_without_meaning_are_refused(damage: str) -> None:
    world = lists(np.random.default_rng(0), events=0 if damage == "empty" else 3)
    if damage == "nan":
        world.features[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="needs a list, and finite features"):
        fit_ranker(world)
