"""Proxies: one hop for all sources of a request, nothing left when it is cancelled, little on the wire."""

import asyncio
import pickle
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.config import Budgets
from serving.deployments.remote import (
    SHARE_OF_TIME,
    Brought,
    Refused,
    RemoteExplainer,
    RemoteScorer,
    RemoteSelector,
    RemoteSource,
    SourceFailed,
    SourceInfo,
    remote_sources,
)
from serving.errors import InvalidFilter, Unavailable
from serving.pipeline import RecommendationPipeline
from serving.types import CandidateBatch, Explanation, Float32, History, Query
from tests.serving.doubles import BestScoreBlender, Named, batch_of, query_of
from tests.serving.fakes import PATIENT

BUDGET_S = 0.2


class Personal(Named):
    def enabled(self, query: Query) -> bool:
        return query.user_id is not None


INFOS = (
    SourceInfo("near", True, Personal),
    SourceInfo("rated", True, Personal),
    SourceInfo("popular", False, Named),
)


@dataclass
class Replica:
    """A retriever, as the proxies see it."""

    answer: tuple[Brought, ...] = ()
    hangs: bool = False
    calls: list[tuple[str, Query, float]] = field(default_factory=list)
    cancelled: int = 0

    async def retrieve(self, version: str, query: Query, within_s: float) -> tuple[Brought, ...]:
        self.calls.append((version, query, within_s))
        try:
            await (asyncio.Event().wait() if self.hangs else asyncio.sleep(0))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.answer

    def sources(self) -> tuple[RemoteSource, ...]:
        return remote_sources("v1", INFOS, self.retrieve, BUDGET_S)


def query(**fields: Any) -> Query:
    return query_of(**{"deadline": time.monotonic() + 10, **fields})


def pipeline(sources: tuple[RemoteSource, ...], **stages: Any) -> RecommendationPipeline:
    return RecommendationPipeline(sources, BestScoreBlender(), **{"budgets": PATIENT, **stages})


async def test_all_sources_of_a_request_share_one_call() -> None:
    replica = Replica((batch_of([1, 2]), batch_of([2, 3]), batch_of([4])))
    sources = replica.sources()
    answer = await pipeline(sources).run(query(count=10))
    assert set(answer.batch.item_index) == {1, 2, 3, 4}
    assert answer.sources == ("near", "rated", "popular")
    assert [version for version, _, _ in replica.calls] == ["v1"]
    assert len(sources[0].shared) == 0


async def test_requests_that_look_the_same_do_not_share() -> None:
    replica = Replica((batch_of([1]), None, None))
    recommend = pipeline(replica.sources())
    await asyncio.gather(*(recommend.run(query(request_id="same")) for _ in range(5)))
    assert len(replica.calls) == 5


async def test_a_source_that_failed_there_is_lost_and_one_that_declined_is_not() -> None:
    replica = Replica(("ValueError", None, batch_of([4])))
    answer = await pipeline(replica.sources()).run(query())
    assert answer.degraded == ("source:near",)
    assert answer.tier == "popular"
    assert answer.batch.item_index.tolist() == [4]


async def test_the_error_names_the_source_and_what_it_raised() -> None:
    source = Replica(("ValueError", None, None)).sources()[0]
    with pytest.raises(SourceFailed, match="near: ValueError"):
        await source.retrieve(query())


async def test_a_cancelled_request_cancels_the_call_and_leaves_nothing() -> None:
    replica = Replica(hangs=True)
    sources = replica.sources()
    asked = query()
    waiting = [asyncio.create_task(source.retrieve(asked)) for source in sources]
    await asyncio.sleep(0.01)
    waiting[0].cancel()
    await asyncio.sleep(0)
    assert (len(sources[0].shared), replica.cancelled) == (1, 0)  # two still wait
    for task in waiting[1:]:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.sleep(0)
    assert (len(sources[0].shared), replica.cancelled) == (0, 1)


async def test_a_hanging_replica_is_given_up_at_the_executors_budget() -> None:
    replica = Replica(hangs=True)
    sources = replica.sources()
    recommend = pipeline(sources, budgets=Budgets(source=20))
    with pytest.raises(Unavailable, match="no source answered"):
        await recommend.run(query())
    await asyncio.sleep(0)
    assert (len(sources[0].shared), replica.cancelled) == (0, 1)


@pytest.mark.parametrize(("left_s", "expected"), [(10.0, BUDGET_S), (0.1, 0.1)])
async def test_a_replica_gives_a_source_less_time_than_its_caller_has(left_s: float, expected: float) -> None:
    replica = Replica((batch_of([1]), None, None))
    await replica.sources()[0].retrieve(query(deadline=time.monotonic() + left_s))
    [(_, _, within_s)] = replica.calls
    assert 0 < within_s <= SHARE_OF_TIME * expected


async def test_features_stay_where_they_are() -> None:
    seen: list[CandidateBatch] = []

    async def score(version: str, query: Query, batch: CandidateBatch) -> Float32:
        seen.append(batch)
        return np.arange(len(batch), dtype=np.float32)

    async def select(version: str, query: Query, batch: CandidateBatch) -> NDArray[np.intp]:
        seen.append(batch)
        return np.array([1])

    async def explain(version: str, query: Query, batch: CandidateBatch) -> tuple[Explanation, ...]:
        seen.append(batch)
        return (Explanation(None, None, ()),) * len(batch)

    batch = batch_of([5, 6]).with_features(np.ones((2, 64), np.float32))
    scored = await RemoteScorer("v1", Named, score).score(query(), batch)
    assert scored.item_index.tolist() == [5, 6]
    assert scored.score is not None
    assert scored.score.tolist() == [0.0, 1.0]
    assert scored.features is batch.features
    assert (await RemoteSelector("v1", Named, select).select(query(), scored)).tolist() == [1]
    assert len(await RemoteExplainer("v1", Named, explain).explain(query(), scored)) == 2
    assert [each.features for each in seen] == [None, None, None]


def test_a_call_with_a_long_history_and_all_candidates_stays_small() -> None:
    events = 200
    history = History(
        np.arange(events, dtype=np.int32), np.ones(events, np.float32), np.arange(events, dtype=np.float64)
    )
    asked = query(history=history, user_features=np.zeros(64, np.float32))
    call = len(pickle.dumps(("v1", asked, batch_of(range(500))), protocol=5))
    answer = len(pickle.dumps(np.zeros(500, np.float32), protocol=5))
    assert call < 12_000
    assert answer < 2_500


async def test_a_query_that_a_stage_declines_costs_no_call() -> None:
    replica = Replica((None, None, batch_of([4])))
    recommend = pipeline(replica.sources()[:2])
    with pytest.raises(Unavailable):
        await recommend.run(query(user_id=None))
    assert replica.calls == []
    assert [source.enabled(query(user_id=None)) for source in replica.sources()] == [False, False, True]


async def test_a_filter_refused_there_is_the_clients_mistake_here() -> None:
    refused = Refused("year", "no such field")
    replica = Replica((refused, refused, pickle.loads(pickle.dumps(refused))))
    with pytest.raises(InvalidFilter, match="year: no such field"):
        await pipeline(replica.sources()).run(query(filter={"year": {"gte": 1}}))
