"""The sources over real models: what they bring is what training's own retrieval brings."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.batch import Candidates, Queries
from serving.eligibility import Eligibility, not_itself
from serving.expressions import CatalogueFilter
from serving.retrieval.named import NamedItems
from serving.retrieval.similar import SimilarByBehaviour, SimilarByContent
from serving.retrieval.sources import ModelSource, PopularSource, VectorSource
from serving.stages import Source
from serving.types import Query
from tests.serving.doubles import catalogue_of, history_of, indices, queries_of, query_of
from tests.serving.models import COLD, N_ITEMS, small
from training.models.index import ExactIndex
from training.models.ragged import Ragged
from training.models.retrieval import SOURCES, retrieve
from training.models.scores import Scores

WORLD = small()
MODELS = WORLD.models
EASE = MODELS.linear["ease"]
ELIGIBILITY = Eligibility(CatalogueFilter(WORLD.data.catalogue))
PROFILES = WORLD.data.catalogue.features
WIDTH = WORLD.schema.user_width

items = st.lists(st.integers(0, N_ITEMS - 1), max_size=20)
moments = st.integers(-10, 800).map(lambda days: WORLD.now + 86_400 * (days - 790))


def recommending(limit: int) -> tuple[Source, ...]:
    return (
        ModelSource("two_tower", "two_tower", MODELS, ELIGIBILITY, limit),
        ModelSource("ease", "ease", MODELS, ELIGIBILITY, limit),
        ModelSource("sequential", "sequential", MODELS, ELIGIBILITY, limit),
        PopularSource(MODELS.statistics, ELIGIBILITY, limit),
    )


def similar_to(item: int, count: int = 5, exclude: tuple[int, ...] = ()) -> Query:
    return query_of(user_id=None, items=indices([item]), count=count, exclude=indices(exclude), now=WORLD.now)


def unlike(*queries: Query) -> Queries:
    return Queries.of(queries, 0, [not_itself(query) for query in queries])


requests = st.lists(
    st.builds(
        lambda past, seed, now, hidden: query_of(
            history=history_of(past),
            user_features=None if seed is None else np.random.default_rng(seed).random(WIDTH, np.float32),
            now=now,
            exclude=indices(hidden),
            count=1,
        ),
        items,
        st.none() | st.integers(0, 99),
        moments,
        items,
    ),
    min_size=1,
    max_size=4,
)


@given(requests, st.integers(1, 50))
def test_serving_retrieves_what_training_retrieved(several: list[Query], limit: int) -> None:
    asked = queries_of(*several, user_width=WIDTH)
    scores = Scores(MODELS, asked.histories.item_index, asked.user_features)
    sizes = dict.fromkeys(SOURCES, limit)
    expected = retrieve(scores, MODELS.statistics, asked.now, ELIGIBILITY.of(asked), sizes)
    sources = recommending(limit)
    assert [source.name for source in sources] == list(expected)
    assert [source.name for source in sources if not source.personal] == ["popular"]
    for source in sources:
        items_of_all, scores_of_all = expected[source.name]
        theirs = Candidates.of(items_of_all, scores_of_all)
        rows = np.flatnonzero(source.takes(asked))
        ours = source.retrieve(asked.take(rows))
        assert ours.row_splits.tolist() == theirs.take(rows).row_splits.tolist()
        np.testing.assert_allclose(
            ours.retrieval_score, theirs.take(rows).retrieval_score, rtol=1e-4, atol=1e-4
        )
        if len(rows) == len(asked):
            assert ours.item_index.tolist() == theirs.item_index.tolist()
        if source.personal:  # nothing is brought to those that it is not for
            assert theirs.lengths[asked.histories.item_index.lengths == 0].sum() == 0


@given(requests, st.integers(1, 50))
def test_an_exact_index_brings_what_scoring_everything_brings(several: list[Query], limit: int) -> None:
    asked = queries_of(*several, user_width=WIDTH)
    asked = asked.take(np.flatnonzero(asked.histories.item_index.lengths > 0))
    if not len(asked):
        return
    index = ExactIndex(MODELS.two_tower.item_vectors)
    found = VectorSource("two_tower", MODELS, index, ELIGIBILITY, limit).retrieve(asked)
    expected = ModelSource("two_tower", "two_tower", MODELS, ELIGIBILITY, limit).retrieve(asked)
    assert found.row_splits.tolist() == expected.row_splits.tolist()
    np.testing.assert_allclose(found.retrieval_score, expected.retrieval_score, rtol=1e-4, atol=1e-4)


@given(st.lists(items, min_size=1, max_size=3), st.integers(1, 60), st.integers(1, 60))
def test_popular_fills_the_answer_as_far_as_there_are_items(
    hidden: list[list[int]], limit: int, count: int
) -> None:
    asked = queries_of(*(query_of(exclude=indices(gone), count=count, now=WORLD.now) for gone in hidden))
    found = PopularSource(MODELS.statistics, ELIGIBILITY, limit).retrieve(asked)
    every = Ragged.of([np.arange(N_ITEMS, dtype=np.int32)] * len(asked), np.int32)
    allowed = ELIGIBILITY.of(asked).allows(every).reshape(len(asked), N_ITEMS)
    shown = [int(own.sum()) for own in allowed]
    assert found.lengths.tolist() == [min(there, max(limit, count)) for there in shown]


@pytest.mark.parametrize("item", range(N_ITEMS))
def test_an_item_is_never_similar_to_itself_or_to_what_is_excluded(item: int) -> None:
    other = (item + 1) % N_ITEMS
    asked = unlike(similar_to(item, N_ITEMS, exclude=(other,)), similar_to(other, N_ITEMS))
    for source in (
        SimilarByBehaviour(EASE, ELIGIBILITY, N_ITEMS),
        SimilarByContent(PROFILES, ELIGIBILITY, N_ITEMS),
    ):
        found = source.retrieve(asked)
        assert not {item, other} & set(found.items[0].tolist())
        assert other not in found.items[1].tolist()
    assert found.lengths.tolist() == [N_ITEMS - 2, N_ITEMS - 1]  # content says something of every other


def test_behaviour_brings_only_what_there_is_evidence_for() -> None:
    item = int((EASE.weights > 0).any(axis=1).argmax())
    found = SimilarByBehaviour(EASE, ELIGIBILITY, N_ITEMS).retrieve(unlike(similar_to(item)))
    weights = EASE.weights[item]
    assert set(found.item_index.tolist()) == set(np.flatnonzero(weights > 0).tolist())
    np.testing.assert_array_equal(found.retrieval_score, weights[found.item_index])


def test_what_nobody_has_met_has_no_behaviour_and_is_answered_by_content() -> None:
    asked = unlike(similar_to(COLD))
    assert SimilarByBehaviour(EASE, ELIGIBILITY, 10).retrieve(asked).lengths.tolist() == [0]
    assert SimilarByContent(PROFILES, ELIGIBILITY, 10).retrieve(asked).lengths.tolist() == [10]


def test_content_is_the_cosine_of_item_features() -> None:
    features = np.array([[1, 0], [3, 0], [1, 1], [0, 2], [-1, 0], [0, 0]], np.float32)
    eligibility = Eligibility(CatalogueFilter(catalogue_of(6)))
    found = SimilarByContent(features, eligibility, 10).retrieve(unlike(similar_to(0)))
    assert found.item_index.tolist() == [1, 2, 3, 5, 4]
    np.testing.assert_allclose(found.retrieval_score, [1, 0.5**0.5, 0, 0, -1], rtol=1e-6)


def test_nothing_is_similar_where_no_item_is_named() -> None:
    asked = queries_of(query_of(items=indices([])), query_of(items=indices([1, 2])))
    for kind in (SimilarByBehaviour, SimilarByContent):
        assert kind.takes(asked).tolist() == [False, True]


@given(st.lists(items, min_size=1, max_size=4), st.lists(moments, min_size=4, max_size=4))
def test_named_items_come_once_each_by_popularity_then_as_named(
    wanted: list[list[int]], now: list[float]
) -> None:
    queries = [query_of(items=indices(each), now=at) for each, at in zip(wanted, now, strict=False)]
    found = NamedItems(MODELS.statistics).retrieve(queries_of(*queries))
    for row, query in enumerate(queries):
        popularity = MODELS.statistics.at(query.now).popularity_month
        mine = found.take(np.array([row]))
        once = list(dict.fromkeys(cast(list[int], query.items.tolist())))
        assert mine.item_index.tolist() == sorted(once, key=lambda item: -popularity[item])
        np.testing.assert_array_equal(mine.retrieval_score, popularity[mine.item_index])
