from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training.models.worlds import floats
from training.models.dcn.estimator import fit_dcn
from training.models.dcn.model import DcnRanker
from training.models.dcn.network import DcnNetwork, DcnSettings, bins_of, load
from training.models.dcn.options import DcnOptions
from training.models.eager import EagerNetwork
from training.models.ranking_lists import RankingLists, quantile_knots

NAMES = ("left", "right", "noise", "constant")
FIT = DcnOptions(steps=300, batch=64, learning_rate=0.01)
seeds = st.integers(0, 10_000)


def lists(rng: np.random.Generator, events: int = 400, width: int = 8) -> RankingLists:
    """The item taken is the one whose first two features have the highest product: no sum of curves of one
    feature each can say so. Lists are filled up with values that would mislead."""
    features = floats(rng, events, width, 4)
    features[..., 3] = 7
    present = np.arange(width) < rng.integers(2, width + 1, events)[:, None]
    best = np.where(present, features[..., 0] * features[..., 1], -np.inf).argmax(1)
    rows = np.arange(events)
    features[rows, 0], features[rows, best] = features[rows, best].copy(), features[rows, 0].copy()
    features[~present] = 99
    return RankingLists(NAMES, features, present)


@pytest.fixture(scope="module")
def ranker() -> DcnRanker:
    return fit_dcn(lists(np.random.default_rng(0)), FIT, seed=1)


def test_it_learns_what_no_sum_of_curves_can(ranker: DcnRanker) -> None:
    fresh = lists(np.random.default_rng(1))
    scores = ranker.score(fresh.features.reshape(-1, 4)).reshape(fresh.present.shape)
    right = np.where(fresh.present, scores, -np.inf).argmax(1) == 0
    assert right.mean() > 0.7  # by chance 0.25


def test_equal_lists_and_seeds_give_equal_networks_whatever_was_drawn_before(ranker: DcnRanker) -> None:
    torch.rand(3)
    state = torch.random.get_rng_state()
    again, other = (fit_dcn(lists(np.random.default_rng(0)), FIT, seed=seed) for seed in (1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    rows = floats(np.random.default_rng(2), 20, 4)
    np.testing.assert_array_equal(again.score(rows), ranker.score(rows))
    assert not np.array_equal(other.score(rows), ranker.score(rows))


@given(seeds, st.integers(0, 20))
def test_a_batch_equals_its_singles_and_contributions_add_up_to_the_score(
    ranker: DcnRanker, seed: int, c: int
) -> None:
    rows = 3 * floats(np.random.default_rng(seed), c, 4)
    scores, terms = ranker.score(rows), ranker.contributions(rows)
    assert scores.dtype == terms.dtype == np.float32
    assert terms.shape == rows.shape
    np.testing.assert_allclose(terms.sum(1) + ranker.bias, scores, rtol=1e-5, atol=1e-4)
    for row in range(c):
        np.testing.assert_allclose(ranker.score(rows[row : row + 1])[0], scores[row], rtol=1e-5, atol=1e-5)


def test_what_is_owed_to_a_product_is_owed_to_both_features(ranker: DcnRanker) -> None:
    terms = ranker.contributions(np.array([[1.5, 1.5, 0, 7], [-1.5, 1.5, 0, 7]], np.float32))
    assert (terms[0, :2] > 0).all()
    assert terms[1, :2].sum() < 0
    np.testing.assert_allclose(terms[:, 3], 0, rtol=1e-5, atol=1e-5)


def test_a_row_that_is_not_finite_has_no_score_and_leaves_others_theirs(ranker: DcnRanker) -> None:
    rows = floats(np.random.default_rng(3), 3, 4)
    expected = ranker.score(rows)
    rows[1, 2] = np.nan
    found = ranker.score(rows)
    assert np.isnan(found[1])
    np.testing.assert_allclose(found[[0, 2]], expected[[0, 2]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_any_number_of_steps_is_a_training(steps: int) -> None:
    assert np.isfinite(fit_dcn(lists(np.random.default_rng(0)), FIT.model_copy(update={"steps": steps})).bias)


@pytest.mark.parametrize(
    "features", [np.zeros((0, 3, 4), np.float32), np.full((2, 3, 4), np.inf, np.float32)]
)
def test_lists_that_cannot_be_learned_from_are_refused(features: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite"):
        fit_dcn(RankingLists(NAMES, features, np.ones(features.shape[:2], bool)), FIT)


@given(seeds, st.integers(2, 8))
def test_bins_fill_one_after_another(seed: int, bins: int) -> None:
    """A feature's bins say where it stands among its knots; beyond the ends it stands still."""
    rng = np.random.default_rng(seed)
    knots = [quantile_knots(floats(rng, 50), bins), np.array([0, 1], np.float32)]
    left, width = bins_of(knots)
    assert left.shape == width.shape
    values = np.sort(3 * floats(rng, 30))
    filled = np.clip((values[:, None] - left[0]) / width[0], 0, 1).sum(1)
    assert (np.diff(filled) >= 0).all()
    np.testing.assert_allclose(
        filled, np.interp(values, knots[0], np.arange(len(knots[0]))), rtol=1e-5, atol=1e-3
    )
    np.testing.assert_array_equal(np.clip((values[:, None] - left[1, 1:]) / width[1, 1:], 0, 1), 0)


def test_every_weight_is_learned() -> None:
    network = DcnNetwork(DcnSettings(4, 2, 64), *bins_of([np.linspace(-2, 2, 5, dtype=np.float32)] * 3))
    network(torch.randn(64, 3)).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_ranker_is_equal_after_a_round_trip(ranker: DcnRanker) -> None:
    component = ranker.to_component()
    network = load(component)
    again = DcnRanker.from_component(component, EagerNetwork(network, network.signature))
    rows = floats(np.random.default_rng(4), 9, 4)
    assert (again.names, again.bias) == (ranker.names, ranker.bias)
    np.testing.assert_array_equal(again.score(rows), ranker.score(rows))
    narrow = DcnNetwork(DcnSettings(4, 2, 64), *bins_of([np.array([0, 1], np.float32)]))
    with pytest.raises(ValueError, match="signature"):
        DcnRanker.from_component(component, EagerNetwork(narrow, narrow.signature))
