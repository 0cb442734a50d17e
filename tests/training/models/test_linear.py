from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.training.models.worlds import N_ITEMS, history, linear, sequences
from training.fit.linear import fit_ease, fit_sequential
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
    scores = model.score(past)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    np.testing.assert_allclose(model.score_items(past, items), scores[items], atol=1e-5)
    terms = model.contributions(past, items)
    assert terms.shape == (7, length)
    assert terms.dtype == scores.dtype == np.float32
    np.testing.assert_allclose(terms.sum(1), scores[items], atol=1e-5)
    assert not terms[:, : max(0, length - model.history)].any()


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
    np.testing.assert_array_equal(model.score(past), model.score(past[-4:]))
    assert not np.array_equal(model.score(past), model.score(past[:-1]))


def test_equal_after_a_round_trip() -> None:
    rng = np.random.default_rng(3)
    model, past = linear(rng), history(rng, 9)
    again = LinearItemModel.from_component(model.to_component())
    np.testing.assert_array_equal(again.score(past), model.score(past))
