"""The sources over real models: what they bring is what training's own retrieval brings."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from serving.expressions import CatalogueFilter
from serving.filters import Eligibility, excluded, named, seen
from serving.retrieval.index import ExactIndex, top_k
from serving.retrieval.linear import LinearSource
from serving.retrieval.named import NamedItems
from serving.retrieval.popular import PopularSource, first_allowed, first_allowed_rows
from serving.retrieval.similar import SimilarByBehaviour, SimilarByContent
from serving.retrieval.two_tower import TwoTowerSource
from serving.stages import Source
from serving.types import CandidateBatch, Query
from tests.serving.doubles import history_of, indices, query_of
from tests.serving.models import COLD, N_ITEMS, small
from training.models.retrieval import SOURCES

WORLD = small()
MODELS = WORLD.models
RULES = CatalogueFilter(WORLD.data.catalogue)
ELIGIBLE = Eligibility(RULES, seen, excluded).mask
UNLIKE = Eligibility(RULES, named, excluded).mask
PROFILES = WORLD.data.catalogue.features

items = st.lists(st.integers(0, N_ITEMS - 1), max_size=20)
moments = st.integers(-10, 800).map(lambda days: WORLD.now + 86_400 * (days - 790))


def recommending(limit: int) -> tuple[Source, ...]:
    return (
        TwoTowerSource(MODELS.two_tower, ExactIndex(MODELS.two_tower.item_vectors), ELIGIBLE, limit),
        LinearSource("ease", MODELS.ease, ELIGIBLE, limit),
        LinearSource("sequential", MODELS.sequential, ELIGIBLE, limit),
        PopularSource(MODELS.statistics, ELIGIBLE, limit),
    )


def brought(source: Source, query: Query) -> CandidateBatch:
    return asyncio.run(source.retrieve(query))


def similar_to(item: int, count: int = 5, exclude: tuple[int, ...] = ()) -> Query:
    return query_of(user_id=None, items=indices([item]), count=count, exclude=indices(exclude), now=WORLD.now)


@given(items, st.none() | st.integers(0, 99), moments, items, st.integers(1, 50))
def test_serving_retrieves_what_training_retrieved(
    past: list[int], seed: int | None, now: float, hidden: list[int], limit: int
) -> None:
    known = None
    if seed is not None:
        known = np.random.default_rng(seed).standard_normal(WORLD.schema.user_width).astype(np.float32)
    query = query_of(history=history_of(past), user_features=known, now=now, exclude=indices(hidden), count=1)
    expected = MODELS.retrieval.retrieve(
        query.history.item_index, known, now, ELIGIBLE(query), dict.fromkeys(SOURCES, limit)
    )
    sources = recommending(limit)
    assert [source.name for source in sources if source.enabled(query)] == list(expected)
    assert [source.name for source in sources if not source.personal] == ["popular"]
    for source in sources:
        if source.enabled(query):
            batch = brought(source, query)
            ours, theirs = expected[source.name]
            assert batch.item_index.tolist() == ours.tolist()
            np.testing.assert_array_equal(batch.retrieval_score, theirs)


@given(items, st.integers(1, 60), st.integers(1, 60))
def test_popular_fills_the_answer_as_far_as_there_are_items(
    hidden: list[int], limit: int, count: int
) -> None:
    query = query_of(exclude=indices(hidden), count=count, now=WORLD.now)
    batch = brought(PopularSource(MODELS.statistics, ELIGIBLE, limit), query)
    assert len(batch) == min(int(ELIGIBLE(query).sum()), max(limit, count))


@pytest.mark.parametrize("item", range(N_ITEMS))
def test_an_item_is_never_similar_to_itself_or_to_what_is_excluded(item: int) -> None:
    other = (item + 1) % N_ITEMS
    query = similar_to(item, N_ITEMS, exclude=(other,))
    for source in (
        SimilarByBehaviour(MODELS.ease, UNLIKE, N_ITEMS),
        SimilarByContent(PROFILES, UNLIKE, N_ITEMS),
    ):
        batch = brought(source, query)
        assert not {item, other} & set(batch.item_index.tolist())
    assert len(batch) == N_ITEMS - 2  # content says something of every other item


def test_behaviour_brings_only_what_there_is_evidence_for() -> None:
    item = int((MODELS.ease.weights > 0).any(axis=1).argmax())
    batch = brought(SimilarByBehaviour(MODELS.ease, UNLIKE, N_ITEMS), similar_to(item))
    weights = MODELS.ease.weights[item]
    assert set(batch.item_index.tolist()) == set(np.flatnonzero(weights > 0).tolist())
    np.testing.assert_array_equal(batch.retrieval_score, weights[batch.item_index])


def test_what_nobody_has_met_has_no_behaviour_and_is_answered_by_content() -> None:
    assert not len(brought(SimilarByBehaviour(MODELS.ease, UNLIKE, 10), similar_to(COLD)))
    assert len(brought(SimilarByContent(PROFILES, UNLIKE, 10), similar_to(COLD))) == 10


def test_content_is_the_cosine_of_item_features() -> None:
    features = np.array([[1, 0], [3, 0], [1, 1], [0, 2], [-1, 0], [0, 0]], np.float32)
    batch = brought(
        SimilarByContent(features, lambda query: np.arange(6) != query.items[0], 10), similar_to(0)
    )
    assert batch.item_index.tolist() == [1, 2, 3, 5, 4]
    np.testing.assert_allclose(batch.retrieval_score, [1, 0.5**0.5, 0, 0, -1], rtol=1e-6)


def test_nothing_is_similar_where_no_item_is_named() -> None:
    query = query_of(items=indices([]))
    assert not SimilarByBehaviour(MODELS.ease, UNLIKE, 5).enabled(query)
    assert not SimilarByContent(PROFILES, UNLIKE, 5).enabled(query)


@given(items)
def test_named_items_come_once_each_by_popularity_then_as_named(wanted: list[int]) -> None:
    query = query_of(items=indices(wanted), now=WORLD.now)
    popularity = MODELS.statistics.at(WORLD.now).popularity_month
    batch = brought(NamedItems(MODELS.statistics), query)
    once = list(dict.fromkeys(wanted))
    assert batch.item_index.tolist() == sorted(once, key=lambda item: -popularity[item])
    np.testing.assert_array_equal(batch.retrieval_score, popularity[batch.item_index])


@given(
    popularity=arrays(np.float32, st.integers(1, 60), elements=st.sampled_from([0.0, 0.5, 1.0, 2.0])),
    data=st.data(),
    count=st.integers(1, 70),
)
def test_the_head_of_an_order_is_what_a_look_at_everything_gives(
    popularity: np.ndarray, data: st.DataObject, count: int
) -> None:
    allowed = data.draw(arrays(np.bool_, len(popularity)))
    order = np.argsort(-popularity, kind="stable").astype(np.int32)
    expected, _ = top_k(popularity, count, allowed)
    np.testing.assert_array_equal(first_allowed(order, allowed, count), expected)
    both = first_allowed_rows(order, np.stack([~allowed, allowed]), count)
    assert both.shape == (2, min(count, len(order)))
    assert both[1].tolist() == [*expected.tolist(), *[len(order)] * (both.shape[1] - len(expected))]
