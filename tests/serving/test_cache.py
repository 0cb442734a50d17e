"""A kept answer is the computed one, until anything it depends on is another."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.batch import Candidates, Queries
from serving.build import compose
from serving.cache import LatestAnswers
from serving.config import CacheConfig, ServeConfig
from serving.eligibility import hidden
from serving.errors import Unavailable
from serving.http.wire import recommendation_body
from serving.pipeline import Pipeline
from serving.types import Diversity, Mask, Query, Recommendation
from tests.serving.doubles import (
    BestScoreBlender,
    FixedSource,
    batch_of,
    fails,
    history_of,
    indices,
    query_of,
)
from tests.serving.fakes import PATIENT
from tests.serving.models import N_ITEMS, small, small_bundle

WORLD, BUNDLE = small(), small_bundle()
CONFIG = ServeConfig(bundle="small", budgets=PATIENT)
UNCACHED = CONFIG.model_copy(update={"cache": CacheConfig(items=0)})
IDS = [*WORLD.data.events.user_ids[:3], "nobody"]


def engine_of(config: ServeConfig) -> Any:
    return compose(BUNDLE, WORLD.store(), config)


CACHED, PLAIN = engine_of(CONFIG), engine_of(UNCACHED)


def asked(pipeline: Pipeline, **fields: Any) -> Recommendation:
    return asyncio.run(
        pipeline.run(query_of(**{"now": WORLD.now, "deadline": time.monotonic() + 60} | fields))
    )


questions = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from(IDS),
        "count": st.sampled_from([3, 10]),
        "exclude": st.lists(st.integers(0, N_ITEMS - 1), max_size=2).map(indices),
        "filter": st.sampled_from([None, {"genres": {"any": ["genre-1"]}}, {"genres": {"any": ["genre-2"]}}]),
        "diversity": st.sampled_from([Diversity("none", 0.0), Diversity("mmr", 0.3), Diversity("mmr", 0.9)]),
        "explain": st.booleans(),
    }
)


@settings(max_examples=40)
@given(st.lists(questions, min_size=1, max_size=4))
def test_with_a_cache_every_answer_is_what_it_is_without(asking: list[dict[str, Any]]) -> None:
    for fields in [*asking, *asking]:
        ours, theirs = asked(CACHED.recommend, **fields), asked(PLAIN.recommend, **fields)
        np.testing.assert_array_equal(ours.shown.item_index, theirs.shown.item_index)
        np.testing.assert_array_equal(ours.shown.source, theirs.shown.source)
        assert (ours.explanations, ours.tier, ours.sources) == (
            theirs.explanations,
            theirs.tier,
            theirs.sources,
        )
        assert ours.query.history.item_index.tolist() == theirs.query.history.item_index.tolist()
        assert ours.query.feature_age_s == theirs.query.feature_age_s
        assert "cache" not in theirs.timings_ms
    assert set(asked(CACHED.recommend, **asking[0]).timings_ms) == {"features", "cache"}


def test_the_body_of_a_kept_answer_differs_in_what_is_of_this_request_only() -> None:
    bodies = [
        json.loads(recommendation_body(asked(CACHED.recommend, user_id=IDS[0], request_id=name), CACHED))
        for name in ("a", "b")
    ]
    assert [body.pop("recommendation_id") for body in bodies] == ["a", "b"]
    assert all(body.pop("timings") for body in bodies)
    assert bodies[0] == bodies[1]
    assert len(bodies[0]["items"]) == 5


@dataclass
class Row:
    """A user's row that changes."""

    version: int | None = 1
    name: str = "row"
    past: tuple[int, ...] = (1,)
    in_memory: bool = False

    def enabled(self, query: Query) -> bool:
        return query.user_id is not None

    def kept(self, query: Query) -> Query | None:
        return self._filled(query) if self.in_memory else None

    async def hydrate(self, queries: Sequence[Query]) -> list[Query]:
        return [self._filled(query) for query in queries]

    def _filled(self, query: Query) -> Query:
        if self.version is None:
            raise ConnectionError
        return replace(query, history=history_of(self.past), user_version=self.version)


@dataclass
class Counting:
    """Brings items, and counts how often it was asked."""

    name: str = "counting"
    personal: bool = True
    asked: int = 0
    broken: bool = False

    @staticmethod
    def takes(queries: Queries) -> Mask:
        return np.ones(len(queries), np.bool_)

    def retrieve(self, queries: Queries) -> Candidates:
        self.asked += 1
        if self.broken:
            fails.compute()
        return batch_of(*[range(5)] * len(queries))


def world(config: CacheConfig | None = None, clock: Any = time.monotonic) -> tuple[Any, Row, Counting]:
    row, source = Row(), Counting()
    cache = LatestAnswers(config or CacheConfig(), clock)
    pipeline = Pipeline(
        query_hydrator=row,
        hidden=hidden,
        user_width=0,
        sources=(source, FixedSource("popular", batch=batch_of([9]), personal=False)),
        blender=BestScoreBlender("best"),
        cache=cache,
        budgets=PATIENT,
    )
    return pipeline, row, source


def test_an_event_of_the_user_makes_the_kept_answer_unreachable() -> None:
    pipeline, row, source = world()
    for version, computed in ((1, 1), (1, 1), (2, 2), (2, 2), (1, 2)):
        row.version = version
        asked(pipeline, user_id="ann")
        assert source.asked == computed


def test_another_user_is_another_question() -> None:
    pipeline, _, source = world()
    for user in ("ann", "bob", "ann", "bob"):
        asked(pipeline, user_id=user)
    assert source.asked == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"session": True, "user_id": None, "history": history_of([1])},
        {"user_id": "ann", "count": 4, "context": {"page": "x"}},
    ],
)
def test_a_session_is_never_kept_and_context_is_part_of_the_question(fields: dict[str, Any]) -> None:
    pipeline, _, source = world()
    asked(pipeline, user_id="ann", count=4)
    asked(pipeline, **fields)
    assert source.asked == 2


def test_what_is_degraded_is_neither_kept_nor_taken_from_the_cache() -> None:
    pipeline, row, source = world()
    source.broken = True
    assert asked(pipeline, user_id="ann").degraded == ("source:counting",)
    source.broken = False
    assert asked(pipeline, user_id="ann").degraded == ()
    row.version = None
    assert asked(pipeline, user_id="ann").degraded == ("features",)
    assert source.asked == 3


def test_an_answer_grows_old() -> None:
    now = 0.0
    pipeline, _, source = world(CacheConfig(ttl_s=10), lambda: now)
    for now, computed in ((0.0, 1), (9.9, 1), (10.1, 2)):  # noqa: B007 (the clock reads it)
        asked(pipeline, user_id="ann")
        assert source.asked == computed


def test_the_cache_is_bounded_by_items_and_forgets_who_was_seen_longest_ago() -> None:
    pipeline, _, source = world(CacheConfig(items=12))
    for user in ("a", "b", "a", "c", "a"):  # 5 items each: two answers fit
        asked(pipeline, user_id=user)
    assert source.asked == 3
    asked(pipeline, user_id="b")
    assert source.asked == 4


def test_an_answer_larger_than_the_cache_is_given_and_not_kept() -> None:
    pipeline, _, source = world(CacheConfig(items=4))
    for _ in range(2):
        assert len(asked(pipeline, user_id="ann").shown) == 5
    assert source.asked == 2


def test_no_answer_is_no_entry() -> None:
    pipeline, _, source = world()
    lonely = replace(pipeline, sources=(source,))
    source.broken = True
    for _ in range(2):
        with pytest.raises(Unavailable):
            asked(lonely, user_id="ann")
    assert source.asked == 2
