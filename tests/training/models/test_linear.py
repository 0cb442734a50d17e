from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.models.worlds import LENGTHS, N_ITEMS, alone, history, linear, one, ragged, sequences
from training.fit.linear import fit_ease, fit_sequential
from training.models import linear as module
from training.models.linear import LinearItemModel

seeds = st.integers(0, 10_000)


@given(seeds, st.integers(0, 20))
def test_score_is_the_faded_sum_and_every_form_of_it_agrees(seed: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    model, past, items = linear(rng), history(rng, length), history(rng, 7)
    newest_first = past[::-1][: model.history]
    expected = sum(
        (0.5 ** (lag / model.half_life) * model.weights[item] for lag, item in enumerate(newest_first)),
        np.zeros(N_ITEMS),
    )
    scores = model.scores(one(*past))[0]
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    np.testing.assert_allclose(model.scores_of(one(*past), one(*items)), scores[items], atol=1e-5)
    terms = model.contributions(past, items)
    assert terms.shape == (7, length)
    assert terms.dtype == scores.dtype == np.float32
    np.testing.assert_allclose(terms.sum(1), scores[items], atol=1e-5)
    assert not terms[:, : max(0, length - model.history)].any()


@pytest.mark.parametrize("whole_rows", [0, N_ITEMS])
@given(seed=seeds, lengths=LENGTHS)
def test_a_batch_equals_its_singles(whole_rows: int, seed: int, lengths: list[int]) -> None:
    """Whether whole rows of the matrix are read, or those of the candidates alone."""
    rng = np.random.default_rng(seed)
    model, pasts = linear(rng), ragged(rng, lengths)
    candidates = ragged(rng, rng.permutation(lengths).tolist())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "WHOLE_ROWS", whole_rows)
        scores, of = model.scores(pasts), model.scores_of(pasts, candidates)
    assert scores.shape == (len(lengths), N_ITEMS)
    assert scores.dtype == of.dtype == np.float32
    for row in range(len(lengths)):
        np.testing.assert_allclose(scores[row : row + 1], model.scores(alone(pasts, row)), atol=1e-5)
        np.testing.assert_allclose(of[candidates.row == row], scores[row, candidates[row]], atol=1e-5)


def test_weights_lie_row_by_row_however_they_come() -> None:
    """A column-major matrix would be copied whole by every request."""
    rng = np.random.default_rng(0)
    offsets, items = sequences(rng)
    for weights in (fit_ease(offsets, items, N_ITEMS), fit_sequential(offsets, items, N_ITEMS)):
        assert weights.flags.c_contiguous
    assert LinearItemModel(np.asfortranarray(weights), 3.0, 8).weights.flags.c_contiguous


def test_only_the_newest_events_count() -> None:
    rng = np.random.default_rng(0)
    model, past = linear(rng, events=4), history(rng, 9)
    np.testing.assert_array_equal(model.scores(one(*past)), model.scores(one(*past[-4:])))
    assert not np.array_equal(model.scores(one(*past)), model.scores(one(*past[:-1])))


def test_equal_after_a_round_trip() -> None:
    rng = np.random.default_rng(3)
    model, past = linear(rng), history(rng, 9)
    again = LinearItemModel.from_component(model.to_component())
    np.testing.assert_array_equal(again.scores(one(*past)), model.scores(one(*past)))
