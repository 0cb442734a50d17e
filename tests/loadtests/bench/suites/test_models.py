"""The eager reference computes what is served, and the suite would notice if it did not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.bench.eager import EagerRanker
from loadtests.bench.result import Spread
from loadtests.bench.suites.models import TOLERANCE, Unequal, check_equal, section
from serving.assemble import Models
from tests.serving.models import N_ITEMS, small, small_bundle

WORLD, BUNDLE = small(), small_bundle()
MODELS = Models(BUNDLE)
EAGER = EagerRanker(MODELS, BUNDLE.schema.user_width, WORLD.now)
items = st.lists(st.integers(0, N_ITEMS - 1), min_size=1, max_size=20, unique=True)


@settings(max_examples=50)
@given(st.lists(st.integers(0, N_ITEMS - 1), min_size=1, max_size=60), items, st.integers(0, 5))
def test_eager_torch_scores_as_served(past: list[int], wanted: list[int], user: int) -> None:
    history, candidates = np.array(past, np.int32), np.array(wanted, np.int32)
    known = WORLD.data.user_features[user]
    served = MODELS.ranker.score(MODELS.ranking_features.compute(history, known, WORLD.now, candidates))
    np.testing.assert_allclose(EAGER.score(history, known, candidates), served, atol=TOLERANCE)


def test_other_scores_or_another_order_are_an_error() -> None:
    scores = np.linspace(1, 0, 20, dtype=np.float32)
    check_equal(scores, scores.copy())
    with pytest.raises(Unequal):
        check_equal(scores, scores + 10 * TOLERANCE)
    with pytest.raises(Unequal):
        check_equal(scores, scores[::-1].copy())


def test_the_ratio_is_taken_round_by_round() -> None:
    goal = section({"as served": Spread((1.0, 4.0)), "eager torch": Spread((2.0, 16.0))}).goals[0]
    assert goal.found.values == (0.5, 0.25)
    assert goal.reached
