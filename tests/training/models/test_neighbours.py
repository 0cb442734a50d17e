from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.models.worlds import LENGTHS, N_ITEMS, alone, floats, history, one, ragged
from training.models.eligible import Eligible, top_k
from training.models.linear import ItemModel, LinearItemModel
from training.models.neighbours import NeighbourModel
from training.models.ragged import Ragged, splits

seeds = st.integers(0, 10_000)


def pair(rng: np.random.Generator) -> tuple[NeighbourModel, LinearItemModel]:
    """The same weights, a fifth of all, as neighbours and as a matrix."""
    weights = np.where(rng.random((N_ITEMS, N_ITEMS)) < 0.2, floats(rng, N_ITEMS, N_ITEMS), np.float32(0))
    row, item = np.nonzero(weights)
    neighbours = Ragged(item.astype(np.int32), splits(np.bincount(row, minlength=N_ITEMS)))
    return NeighbourModel(neighbours, weights[row, item], 3.0, 8), LinearItemModel(weights, 3.0, 8)


@given(seeds, LENGTHS)
def test_says_what_the_matrix_of_its_weights_says(seed: int, lengths: list[int]) -> None:
    rng = np.random.default_rng(seed)
    few, whole = pair(rng)
    pasts, candidates = ragged(rng, lengths), ragged(rng, rng.permutation(lengths).tolist())
    np.testing.assert_allclose(few.scores(pasts), whole.scores(pasts), rtol=1e-5, atol=1e-5)
    of = few.scores_of(pasts, candidates)
    assert of.dtype == np.float32
    np.testing.assert_allclose(of, whole.scores_of(pasts, candidates), rtol=1e-5, atol=1e-5)
    for past, items in zip(pasts, candidates, strict=True):
        terms = few.contributions(past, items)
        assert terms.dtype == np.float32
        np.testing.assert_allclose(terms, whole.contributions(past, items), rtol=1e-5, atol=1e-5)


@given(seeds, LENGTHS, st.integers(0, 50))
def test_the_best_are_those_of_the_whole_row_that_may_be_shown(seed: int, lengths: list[int], k: int) -> None:
    rng = np.random.default_rng(seed)
    few, _ = pair(rng)
    pasts = ragged(rng, lengths)
    hidden = Ragged.of([rng.integers(-1, N_ITEMS, 5).astype(np.int32) for _ in lengths], np.int32)
    eligible = Eligible.all_but(hidden, rng.random(N_ITEMS) < 0.8)
    scores = few.scores(pasts)
    reached = np.zeros(scores.shape, bool)
    for row, past in enumerate(pasts):
        for event in past[-few.history :].tolist():
            reached[row, few.neighbours[event]] = True
    expected, values = top_k(eligible.of(np.where(reached, scores, -np.inf)), k)
    items, score = few.best(pasts, eligible, k)
    np.testing.assert_array_equal(items.row_splits, expected.row_splits)
    np.testing.assert_allclose(score, values, rtol=1e-5, atol=1e-6)
    for row, (begin, end) in enumerate(pairwise(items.row_splits)):
        np.testing.assert_allclose(scores[row, items[row]], score[begin:end], rtol=1e-5, atol=1e-6)


@given(seeds, st.lists(st.integers(0, N_ITEMS - 1), min_size=1, max_size=4), st.integers(1, 50))
def test_similar_items_are_those_that_it_speaks_for(seed: int, anchors: list[int], k: int) -> None:
    rng = np.random.default_rng(seed)
    eligible = Eligible.all_but(
        Ragged.of([np.array([anchor], np.int32) for anchor in anchors], np.int32), rng.random(N_ITEMS) < 0.8
    )
    models: tuple[ItemModel, ItemModel] = pair(rng)
    few, whole = (model.similar(np.array(anchors, np.int32), eligible, k) for model in models)
    np.testing.assert_array_equal(few[0].row_splits, whole[0].row_splits)
    np.testing.assert_array_equal(few[0].values, whole[0].values)
    np.testing.assert_array_equal(few[1], whole[1])


@given(seeds, LENGTHS)
def test_a_batch_equals_its_singles(seed: int, lengths: list[int]) -> None:
    rng = np.random.default_rng(seed)
    few, _ = pair(rng)
    pasts = ragged(rng, lengths)
    scores = few.scores(pasts)
    for row in range(len(lengths)):
        np.testing.assert_allclose(scores[row : row + 1], few.scores(alone(pasts, row)), rtol=1e-5, atol=1e-6)


def test_equal_after_a_round_trip_and_faded_otherwise() -> None:
    rng = np.random.default_rng(3)
    (few, whole), past = pair(rng), one(*history(rng, 9))
    again = NeighbourModel.from_component(few.to_component())
    np.testing.assert_array_equal(again.scores(past), few.scores(past))
    np.testing.assert_allclose(
        few.faded(9.0, 4).scores(past), whole.faded(9.0, 4).scores(past), rtol=1e-5, atol=1e-5
    )
    assert not np.array_equal(few.faded(9.0, 4).scores(past), few.scores(past))


@pytest.mark.parametrize("items", [[], [3]])
def test_nothing_is_said_of_nothing(items: list[int]) -> None:
    few, _ = pair(np.random.default_rng(0))
    assert few.contributions(np.empty(0, np.int32), np.array(items, np.int32)).shape == (len(items), 0)
    assert not few.scores_of(one(), one(*items)).any()
