"""The ranker's stages: training's features and scores, row for row."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.ranking.ranker import AdditiveScorer, RankingHydrator
from tests.serving.doubles import batch_of, history_of, query_of
from tests.serving.models import N_ITEMS, small

WORLD = small()
items = st.lists(st.integers(0, N_ITEMS - 1), unique=True, max_size=20)


@given(st.lists(st.integers(0, N_ITEMS - 1), max_size=20), items, st.booleans(), st.integers(0, 700))
def test_features_and_scores_are_those_of_training(
    past: list[int], candidates: list[int], known: bool, days: int
) -> None:
    user = WORLD.data.user_features[-1] if known else None
    query = query_of(history=history_of(past), user_features=user, now=WORLD.now - 86_400 * days)
    batch = batch_of(candidates)
    hydrated = asyncio.run(RankingHydrator(WORLD.features).hydrate(query, batch))
    expected = WORLD.features.compute(query.history.item_index, user, query.now, batch.item_index)
    np.testing.assert_array_equal(hydrated.features, expected)
    scored = asyncio.run(AdditiveScorer(WORLD.ranker).score(query, hydrated))
    np.testing.assert_array_equal(scored.score, WORLD.ranker.score(expected))
    assert scored.item_index.tolist() == candidates


def test_users_without_a_history_are_left_to_retrieval() -> None:
    known, unknown = query_of(history=history_of([1])), query_of()
    for stage in (RankingHydrator(WORLD.features), AdditiveScorer(WORLD.ranker)):
        assert stage.enabled(known)
        assert not stage.enabled(unknown)


def test_a_batch_without_features_is_refused() -> None:
    with pytest.raises(ValueError, match="hydrate it first"):
        asyncio.run(AdditiveScorer(WORLD.ranker).score(query_of(), batch_of([1])))
