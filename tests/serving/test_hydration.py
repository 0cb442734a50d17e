"""One read of the features for a batch; what fails in it costs those requests features and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from features.store import OnlineStoreError
from serving.cache import LatestAnswers
from serving.config import BatchingConfig, CacheConfig
from serving.pipeline import Pipeline
from serving.types import Query, Recommendation
from tests.faults.bench import BUDGETS, gathered, healthy
from tests.serving.doubles import history_of, query_of
from tests.serving.virtual import Fault, fails, hangs, works

USERS = ("ann", "bob", "cem")


@dataclass
class Rows:
    """A store's rows of users: counts its reads, fails where it is asked for `damaged`."""

    name: str = "rows"
    damaged: str | None = None
    fault: Fault = works
    memory: frozenset[str] = frozenset()
    reads: list[list[str | None]] = field(default_factory=list)

    def enabled(self, query: Query) -> bool:
        return query.user_id is not None

    def kept(self, query: Query) -> Query | None:
        if query.user_id == self.damaged:
            raise OnlineStoreError("injected")
        return self._known(query) if query.user_id in self.memory else None

    async def hydrate(self, queries: Sequence[Query]) -> list[Query]:
        self.reads.append([query.user_id for query in queries])
        await self.fault.wait()
        if self.damaged in self.reads[-1]:
            raise OnlineStoreError("injected")
        return [self._known(query) for query in queries]

    def _known(self, query: Query) -> Query:
        return replace(query, history=history_of([9]), user_version=1)


def answers(rows: Rows, *queries: Query, **stages: object) -> list[Recommendation]:
    """All in one batch."""
    batching = BatchingConfig(max_batch=len(queries))
    found = gathered(healthy().broken(query_hydrator=rows, batching=batching, **stages), *queries)
    return [answer for answer in found if isinstance(answer, Recommendation)]


def of(*users: str | None, **fields: object) -> list[Query]:
    return [query_of(user_id=user, count=2, **fields) for user in users]


def test_a_batch_is_one_read_for_those_that_have_a_user_who_is_not_in_memory() -> None:
    rows = Rows(memory=frozenset({"bob"}))
    found = answers(rows, *of("ann", None, "bob", "cem"))
    assert rows.reads == [["ann", "cem"]]
    assert [len(answer.query.history) for answer in found] == [1, 0, 1, 1]
    assert all(set(answer.timings_ms) >= {"features"} for answer in found)


@pytest.mark.parametrize(("fault", "reads"), [(fails, 4), (hangs, 1)], ids=["fails", "hangs"])
def test_a_failed_read_costs_features_only(fault: Fault, reads: int) -> None:
    rows = Rows(fault=fault)
    found = answers(rows, *of(*USERS))
    assert [answer.degraded for answer in found] == [("features",)] * 3
    assert [len(answer.shown) for answer in found] == [2, 2, 2]
    assert len(rows.reads) == reads  # what took all of the budget is not tried again


def test_a_row_that_cannot_be_read_costs_nobody_else_theirs() -> None:
    found = answers(Rows(damaged="bob"), *of(*USERS))
    assert [answer.degraded for answer in found] == [(), ("features",), ()]
    assert [len(answer.query.history) for answer in found] == [1, 0, 1]


def test_a_request_without_time_does_not_wait_for_its_features() -> None:
    rows, late = Rows(), query_of(user_id="ann", deadline=0.0)
    found = answers(rows, late, *of("bob", deadline=BUDGETS.request / 1e3))
    assert rows.reads == [["bob"]]
    assert [answer.query.user_id for answer in found] == ["bob"]  # the other one is refused


def test_an_answer_from_the_cache_is_looked_for_once_wherever_the_row_was() -> None:
    looked: list[bool] = []
    for memory in (frozenset[str](), frozenset({"ann"})):
        rows, cache = Rows(memory=memory), LatestAnswers(CacheConfig())
        bench = healthy().broken(query_hydrator=rows, cache=cache)
        bench.counts.cache = looked.append  # type: ignore[method-assign]  # a recorder that keeps
        first, second = (bench.ask(user_id="ann") for _ in range(2))
        assert set(second.timings_ms) == {"features", "cache"} < set(first.timings_ms)
        assert len(rows.reads) == (0 if memory else 2)
    assert looked == [False, True] * 2


def test_a_stage_of_ones_own_without_a_store_reads_nothing() -> None:
    pipeline: Pipeline = healthy().pipeline
    (answer,) = gathered(
        replace(healthy(), pipeline=replace(pipeline, query_hydrator=None)), query_of(count=2)
    )
    assert isinstance(answer, Recommendation)
    assert answer.degraded == ()
