"""The ranker's stages: training's features and scores, row for row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.columns import RankingHydrator, rows_of
from serving.ranking.ranker import RankerScorer
from tests.serving.doubles import batch_of, history_of, queries_of, query_of
from tests.serving.models import N_ITEMS, small
from training.models.ranking_features import NAMES, ranking_features
from training.models.scores import Scores

WORLD = small()
WIDTH = WORLD.schema.user_width
items = st.lists(st.integers(0, N_ITEMS - 1), unique=True, max_size=20)
requests = st.lists(
    st.tuples(
        st.lists(st.integers(0, N_ITEMS - 1), min_size=1, max_size=20),
        items,
        st.booleans(),
        st.integers(0, 700),
    ),
    min_size=1,
    max_size=4,
)


@given(requests)
def test_features_and_scores_are_those_of_training(
    several: list[tuple[list[int], list[int], bool, int]],
) -> None:
    asked = queries_of(
        *(
            query_of(
                history=history_of(past),
                user_features=WORLD.data.user_features[-1] if known else None,
                now=WORLD.now - 86_400 * days,
            )
            for past, _, known, days in several
        ),
        user_width=WIDTH,
    )
    found = batch_of(*(candidates for _, candidates, *_ in several))
    hydrated = RankingHydrator(WORLD.models).hydrate(asked, found)
    scores = Scores(WORLD.models, asked.histories.item_index, asked.user_features)
    expected = ranking_features(scores, WORLD.models.statistics, asked.now, found.items)
    np.testing.assert_array_equal(rows_of(hydrated, NAMES), expected)
    scored = RankerScorer(WORLD.ranker).score(asked, hydrated)
    np.testing.assert_array_equal(scored, WORLD.ranker.score(expected))


def test_users_without_a_history_are_left_to_retrieval() -> None:
    asked = queries_of(query_of(history=history_of([1])), query_of())
    for stage in (RankingHydrator, RankerScorer):
        assert stage.takes(asked).tolist() == [True, False]


def test_candidates_without_the_columns_are_refused() -> None:
    with pytest.raises(KeyError, match=WORLD.ranker.names[0]):
        RankerScorer(WORLD.ranker).score(queries_of(query_of()), batch_of([1]))
