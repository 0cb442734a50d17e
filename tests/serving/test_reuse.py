"""Remembering models answer as the plain ones do, for whoever asks in whatever order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.reuse import KEPT, RememberingLinear, RememberingTwoTower
from tests.serving.models import N_ITEMS, small
from training.models.ranking_features import RankingFeatures

PLAIN = small().models
items = st.lists(st.integers(0, N_ITEMS - 1), max_size=12).map(lambda past: np.array(past, np.int32))


def remembering() -> tuple[RememberingTwoTower, RememberingLinear, RememberingLinear]:
    return (
        RememberingTwoTower.from_component(PLAIN.two_tower.to_component()),
        RememberingLinear.from_component(PLAIN.ease.to_component()),
        RememberingLinear.from_component(PLAIN.sequential.to_component()),
    )


@given(st.lists(items, min_size=1, max_size=3), st.lists(st.integers(0, 2), max_size=8), items)
def test_scores_are_the_plain_models(pasts: list[np.ndarray], order: list[int], wanted: np.ndarray) -> None:
    tower, ease, _ = remembering()
    for turn in order:
        past = pasts[turn % len(pasts)]
        np.testing.assert_array_equal(tower.user_vector(past, None), PLAIN.two_tower.user_vector(past, None))
        for _ in range(2):  # before the full score is known, and after
            np.testing.assert_allclose(
                ease.score_items(past, wanted), PLAIN.ease.score_items(past, wanted), atol=1e-5
            )
            np.testing.assert_array_equal(ease.score(past), PLAIN.ease.score(past))


@given(items, items)
def test_ranking_features_are_the_plain_ones_after_the_sources_have_run(
    past: np.ndarray, wanted: np.ndarray
) -> None:
    tower, ease, sequential = remembering()
    statistics = PLAIN.statistics
    plain = RankingFeatures(PLAIN.two_tower, PLAIN.ease, PLAIN.sequential, statistics)
    shared = RankingFeatures(tower, ease, sequential, statistics)
    tower.user_vector(past, None), ease.score(past), sequential.score(past)
    now = statistics.end
    np.testing.assert_allclose(
        shared.compute(past, None, now, wanted), plain.compute(past, None, now, wanted), atol=1e-5
    )


def test_another_half_life_is_another_memory() -> None:
    _, ease, _ = remembering()
    past = np.array([1, 2, 3], np.int32)
    longer = replace(ease, half_life=50.0)
    assert not np.array_equal(ease.score(past), longer.score(past))


def test_what_is_remembered_is_bounded_and_read_only() -> None:
    _, ease, _ = remembering()
    pasts = [np.array([i % N_ITEMS], np.int32) for i in range(KEPT + 5)]
    first = ease.score(pasts[0])
    assert not first.flags.writeable
    assert ease.score(pasts[0]) is first
    for past in pasts[1:]:
        ease.score(past)
    assert len(ease._latest) == KEPT
    again = ease.score(pasts[0])
    assert again is not first
    np.testing.assert_array_equal(again, first)
