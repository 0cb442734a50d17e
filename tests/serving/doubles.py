"""Stages, a catalogue and a clock for tests of the executor. The stages obey the contracts (see
`tests/contracts/test_stages.py`) until a fault is injected.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest import mock

import numpy as np
import pyarrow as pa

from serving.retrieval.index import ExactIndex, top_k
from serving.types import (
    CandidateBatch,
    Contribution,
    Explanation,
    Float32,
    History,
    Int32,
    Mask,
    Query,
    Recommendation,
)
from training.catalogue import Catalogue

T = TypeVar("T")
Fault = Callable[[], Awaitable[None]]


async def works() -> None:
    pass


async def fails() -> None:
    raise ConnectionError("injected")


async def hangs() -> None:
    await asyncio.Event().wait()


def takes(seconds: float) -> Fault:
    async def wait() -> None:
        await asyncio.sleep(seconds)

    return wait


class _SkippingSelector(selectors.SelectSelector):
    """Where nothing is ready, moves the clock to the next timer instead of waiting for it."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everything waits and no timer is set: without a budget this is a hang")
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock starts at 0 and jumps: timeouts are exact, and cost no time."""

    def __init__(self) -> None:
        self._skipping = _SkippingSelector()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs it on virtual time, which the executor's deadlines follow too, and checks that no task of it
    is left."""
    loop = VirtualLoop()
    clock = SimpleNamespace(monotonic=loop.time, perf_counter=time.perf_counter)
    try:
        with mock.patch("serving.pipeline.time", clock), mock.patch("serving.observe.ledger.time", clock):
            return loop.run_until_complete(work)
    finally:
        left = asyncio.all_tasks(loop)
        loop.close()
        assert not left, f"tasks left behind: {left}"


def indices(values: Iterable[int]) -> Int32:
    return np.fromiter(values, np.int32)


def batch_of(items: Iterable[int], scores: Iterable[float] | None = None) -> CandidateBatch:
    """Items with the scores given, or with falling ones."""
    item_index = indices(items)
    falling = np.arange(len(item_index), 0, -1)
    return CandidateBatch.of(item_index, np.array(falling if scores is None else list(scores), np.float32))


def history_of(items: Sequence[int]) -> History:
    return History(indices(items), np.ones(len(items), np.float32), np.arange(len(items), dtype=np.float64))


def query_of(**fields: Any) -> Query:
    """A query with ten (virtual) seconds to go."""
    plain = Query(request_id="r", user_id="u", now=1e9, deadline=10.0, count=5)
    return replace(plain, **fields)


def catalogue_of(n: int, seed: int = 0) -> Catalogue:
    """Items i with title "item i", a year (some missing), genres (some none) and four features."""
    rng = np.random.default_rng(seed)
    genres = np.array(["Comedy", "Drama", "Horror", "War"])
    years = rng.integers(1980, 2000, n)
    table = pa.table(
        {
            "item_id": pa.array([f"i{i}" for i in range(n)], pa.string()),
            "title": pa.array([f"item {i}" for i in range(n)], pa.string()),
            "year": pa.array(years, pa.int32(), mask=rng.random(n) < 0.1),
            "genres": pa.array(
                [genres[rng.random(4) < 0.4].tolist() for _ in range(n)], pa.list_(pa.string())
            ),
        }
    )
    return Catalogue(table, rng.standard_normal((n, 4)).astype(np.float32))


@dataclass(frozen=True)
class Named:
    name: str = "fake"
    fault: Fault = works

    def enabled(self, query: Query) -> bool:
        return True


@dataclass(frozen=True)
class HistoryHydrator(Named):
    history: History = field(default_factory=History.empty)

    async def hydrate_query(self, query: Query) -> Query:
        await self.fault()
        return replace(query, history=self.history, feature_age_s=1.0)


@dataclass(frozen=True)
class FixedSource(Named):
    """Always brings the same."""

    batch: CandidateBatch = field(default_factory=CandidateBatch.empty)
    personal: bool = True
    wanted: bool = True

    def enabled(self, query: Query) -> bool:
        return self.wanted

    async def retrieve(self, query: Query) -> CandidateBatch:
        await self.fault()
        return self.batch


@dataclass(frozen=True)
class NearestSource(Named):
    """Brings the `k` eligible items nearest to one point."""

    vectors: Float32 = field(default_factory=lambda: np.empty((0, 4), np.float32))
    eligible: Callable[[Query], Mask] | None = None
    k: int = 100
    personal: bool = True

    async def retrieve(self, query: Query) -> CandidateBatch:
        await self.fault()
        allowed = None if self.eligible is None else self.eligible(query)
        point = np.ones(self.vectors.shape[1], np.float32)
        return CandidateBatch.of(*ExactIndex(self.vectors).search(point, self.k, allowed))


@dataclass(frozen=True)
class BestScoreBlender(Named):
    """Each item once, with its best score."""

    def blend(self, query: Query, batches: Sequence[CandidateBatch | None]) -> CandidateBatch:
        joined = CandidateBatch.concat([batch for batch in batches if batch is not None])
        items, where = np.unique(joined.item_index, return_inverse=True)
        source = np.zeros(len(items), np.uint32)
        np.bitwise_or.at(source, where, joined.source)
        score = np.full(len(items), -np.inf, np.float32)
        np.maximum.at(score, where, joined.retrieval_score)
        order, _ = top_k(score, len(score))
        return CandidateBatch(items, source, score).take(order)


@dataclass(frozen=True)
class CatalogueHydrator(Named):
    features: Float32 = field(default_factory=lambda: np.empty((0, 4), np.float32))

    async def hydrate(self, query: Query, batch: CandidateBatch) -> CandidateBatch:
        await self.fault()
        return batch.with_features(self.features[batch.item_index])


@dataclass(frozen=True)
class ItemScorer(Named):
    """A fixed score for each item of the catalogue."""

    scores: Float32 = field(default_factory=lambda: np.empty(0, np.float32))

    async def score(self, query: Query, batch: CandidateBatch) -> CandidateBatch:
        await self.fault()
        return batch.with_score(self.scores[batch.item_index])


@dataclass(frozen=True)
class LastSelector(Named):
    """Picks the worst rows, so that its choice is told apart from the ranking."""

    async def select(self, query: Query, batch: CandidateBatch) -> np.ndarray[Any, np.dtype[np.intp]]:
        await self.fault()
        return np.arange(len(batch))[::-1][: query.count]


@dataclass(frozen=True)
class ScoreExplainer(Named):
    async def explain(self, query: Query, batch: CandidateBatch) -> tuple[Explanation, ...]:
        await self.fault()
        assert batch.score is not None
        return tuple(
            Explanation(f"item {item}", None, (Contribution("score", float(score), float(score)),))
            for item, score in zip(batch.item_index, batch.score, strict=True)
        )


@dataclass(frozen=True)
class Recall(Named):
    """A side effect that keeps what it was given."""

    recorded: list[Recommendation] = field(default_factory=list)

    async def record(self, recommendation: Recommendation) -> None:
        await self.fault()
        self.recorded.append(recommendation)


@dataclass
class Counts:
    """A recorder that keeps what was lost, and why."""

    losses: list[tuple[str, str]] = field(default_factory=list)
    answers: int = 0

    def stage(self, stage: str, seconds: float, candidates_in: int, candidates_out: int) -> None:
        pass

    def lost(self, stage: str, reason: str) -> None:
        self.losses.append((stage, reason))

    def cache(self, hit: bool) -> None:
        pass

    def answered(self, recommendation: Recommendation) -> None:
        self.answers += 1
