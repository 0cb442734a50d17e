from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.models.worlds import (
    LENGTHS,
    N_ITEMS,
    USER_WIDTH,
    alone,
    base_models,
    floats,
    history,
    one,
    ragged,
)
from training.models import linear, scores
from training.models.ranking_features import SCORED
from training.models.scores import LONG_HALF_LIFE, LONG_HISTORY, Scores

seeds = st.integers(0, 10_000)


@pytest.mark.parametrize("whole_rows", [0, N_ITEMS])
@pytest.mark.parametrize("retrieved", [False, True])
@given(seed=seeds, lengths=LENGTHS)
def test_a_batch_equals_its_singles(whole_rows: int, retrieved: bool, seed: int, lengths: list[int]) -> None:
    """Whether a catalogue is so large that candidates alone are scored, and whether retrieval has scored all
    of it before."""
    rng = np.random.default_rng(seed)
    models, pasts, users = base_models(rng), ragged(rng, lengths), floats(rng, len(lengths), USER_WIDTH)
    candidates = ragged(rng, rng.permutation(lengths).tolist())
    batch = Scores(models, pasts, users)
    for name in SCORED:
        with pytest.MonkeyPatch.context() as patch:
            for module in (linear, scores):
                patch.setattr(module, "WHOLE_ROWS", whole_rows)
            if retrieved:
                batch.of_all(name)
            found = batch.of(name, candidates)
        assert found.dtype == np.float32
        assert found.shape == candidates.values.shape
        assert batch.of_all(name).shape == (len(lengths), N_ITEMS)
        for row in range(len(lengths)):
            single = Scores(models, alone(pasts, row), users[row : row + 1]).of_all(name)[0]
            np.testing.assert_allclose(batch.of_all(name)[row], single, atol=1e-4)
            np.testing.assert_allclose(found[candidates.row == row], single[candidates[row]], atol=1e-4)


def test_a_models_scores_are_computed_once_and_cannot_be_written() -> None:
    rng = np.random.default_rng(0)
    batch = Scores(base_models(rng), one(*history(rng, 4)), floats(rng, 1, USER_WIDTH))
    assert batch.of_all("ease") is batch.of_all("ease")
    with pytest.raises(ValueError, match="read-only"):
        batch.of_all("ease")[0, 0] = 1


def test_long_taste_is_ease_that_forgets_slowly() -> None:
    models = base_models(np.random.default_rng(0))
    long = replace(models.linear["ease"], half_life=LONG_HALF_LIFE, history=LONG_HISTORY)
    past = one(*history(np.random.default_rng(1), 30))
    np.testing.assert_array_equal(models.linear["ease_long"].scores(past), long.scores(past))
    assert not np.array_equal(models.linear["ease"].scores(past), long.scores(past))
