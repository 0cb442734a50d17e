"""Stages, a catalogue and a clock for tests of the executor. The stages obey the contracts (see
`tests/contracts/test_stages.py`) until a fault is injected.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from serving.batch import Candidates, Queries
from serving.eligibility import Eligibility, hidden
from serving.types import (
    Contribution,
    Explanation,
    Float32,
    History,
    Int32,
    Mask,
    Query,
    Recommendation,
)
from tests.serving.virtual import Fault, fails, hangs, lasts, run, works
from training.catalogue import Catalogue
from training.models.index import top_k
from training.models.ragged import Ragged, splits
from training.models.retrieval import top_k as best_of_rows

__all__ = ["Fault", "fails", "hangs", "lasts", "run", "works"]  # beside what is defined here


def indices(values: Iterable[int]) -> Int32:
    return np.fromiter(values, np.int32)


def batch_of(*lists: Iterable[int], scores: Iterable[float] | None = None) -> Candidates:
    """Candidates of one request for each list, with the scores given, one list after another, or with falling
    ones."""
    items = Ragged.of([indices(each) for each in lists], np.int32)
    falling = np.concatenate([np.empty(0), *(np.arange(n, 0, -1) for n in items.lengths.tolist())])
    return Candidates.of(items, np.array(falling if scores is None else list(scores), np.float32))


def history_of(items: Sequence[int]) -> History:
    return History(indices(items), np.ones(len(items), np.float32), np.arange(len(items), dtype=np.float64))


def query_of(**fields: Any) -> Query:
    """A query with ten (virtual) seconds to go."""
    plain = Query(request_id="r", user_id="u", now=1e9, deadline=10.0, count=5)
    return replace(plain, **fields)


def queries_of(*queries: Query, user_width: int = 0) -> Queries:
    """As the executor gathers them for recommendations."""
    return Queries.of(queries, user_width, [hidden(query) for query in queries])


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

    @staticmethod
    def takes(queries: Queries) -> Mask:
        return np.ones(len(queries), np.bool_)


class Declining:
    """Mixed into a stage: one that is for nobody."""

    @staticmethod
    def takes(queries: Queries) -> Mask:
        return np.zeros(len(queries), np.bool_)


@dataclass(frozen=True)
class HistoryHydrator(Named):
    history: History = field(default_factory=History.empty)

    def enabled(self, query: Query) -> bool:
        return True

    def kept(self, query: Query) -> Query | None:
        return None

    async def hydrate(self, queries: Sequence[Query]) -> list[Query]:
        await self.fault.wait()
        return [replace(query, history=self.history, feature_age_s=1.0) for query in queries]


@dataclass(frozen=True)
class FixedSource(Named):
    """Always brings the same: the candidates of one request."""

    batch: Candidates = field(default_factory=lambda: Candidates.empty(1))
    personal: bool = True

    def retrieve(self, queries: Queries) -> Candidates:
        self.fault.compute()
        return self.batch.take(np.zeros(len(queries), np.int64))


class DecliningSource(Declining, FixedSource):
    """Would bring something, and is for nobody."""


@dataclass(frozen=True)
class ToldSource(Named):
    """Brings what a request's context lists under the source's name, as "3 1 2"; best first."""

    personal: bool = True

    def retrieve(self, queries: Queries) -> Candidates:
        self.fault.compute()
        told = [str(context.get(self.name, "")) for context in queries.context]
        return batch_of(*(map(int, items.split()) for items in told))


@dataclass(frozen=True)
class NearestSource(Named):
    """Brings the `k` eligible items nearest to one point."""

    vectors: Float32 = field(default_factory=lambda: np.empty((0, 4), np.float32))
    eligibility: Eligibility | None = None
    k: int = 100
    personal: bool = True

    def retrieve(self, queries: Queries) -> Candidates:
        self.fault.compute()
        scores = np.tile(self.vectors @ np.ones(self.vectors.shape[1], np.float32), (len(queries), 1))
        if self.eligibility is not None:
            scores = self.eligibility.of(queries).of(scores)
        return Candidates.of(*best_of_rows(scores, self.k))


@dataclass(frozen=True)
class BestScoreBlender(Named):
    """Each item once, with its best score."""

    def blend(self, queries: Queries, brought: Sequence[Candidates | None]) -> Candidates:
        self.fault.compute()
        blended = [self._one([each.take(np.array([row])) for each in brought if each is not None])
                   for row in range(len(queries))]  # fmt: skip
        return Candidates.join([(np.array([row]), one) for row, one in enumerate(blended)], len(queries))

    @staticmethod
    def _one(parts: Sequence[Candidates]) -> Candidates:
        items, where = np.unique(indices(i for each in parts for i in each.item_index), return_inverse=True)
        source, score = np.zeros(len(items), np.uint32), np.full(len(items), -np.inf, np.float32)
        np.bitwise_or.at(source, where, np.array([s for each in parts for s in each.source], np.uint32))
        brought = [s for each in parts for s in each.retrieval_score]
        np.maximum.at(score, where, np.array(brought, np.float32))
        order, _ = top_k(score, len(score))
        return Candidates(splits([len(order)]), items[order], source[order], score[order])


@dataclass(frozen=True)
class CatalogueHydrator(Named):
    features: Float32 = field(default_factory=lambda: np.empty((0, 4), np.float32))
    requires: tuple[str, ...] = ()

    @property
    def provides(self) -> tuple[str, ...]:
        return tuple(f"f{column}" for column in range(self.features.shape[1]))

    def hydrate(self, queries: Queries, candidates: Candidates) -> Candidates:
        self.fault.compute()
        columns = self.features[candidates.item_index].T
        return candidates.with_columns(dict(zip(self.provides, columns, strict=True)))


@dataclass(frozen=True)
class ItemScorer(Named):
    """A fixed score for each item of the catalogue."""

    scores: Float32 = field(default_factory=lambda: np.empty(0, np.float32))
    requires: tuple[str, ...] = ()

    def score(self, queries: Queries, candidates: Candidates) -> Float32:
        self.fault.compute()
        return self.scores[candidates.item_index]


@dataclass(frozen=True)
class LastSelector(Named):
    """Picks the worst rows, so that its choice is told apart from the ranking."""

    def select(self, queries: Queries, candidates: Candidates) -> Ragged[np.int64]:
        self.fault.compute()
        ends, counts = candidates.row_splits[1:].tolist(), queries.count.tolist()
        worst_first = [np.arange(end - length, end)[::-1][:count] for end, length, count in
                       zip(ends, candidates.lengths.tolist(), counts, strict=True)]  # fmt: skip
        return Ragged.of(worst_first, np.int64)


@dataclass(frozen=True)
class ScoreExplainer(Named):
    def explain(self, queries: Queries, candidates: Candidates) -> tuple[tuple[Explanation, ...], ...]:
        self.fault.compute()
        assert candidates.score is not None
        explained = [
            Explanation(f"item {item}", None, (Contribution("score", float(score), float(score)),))
            for item, score in zip(candidates.item_index, candidates.score, strict=True)
        ]
        bounds = zip(candidates.row_splits[:-1], candidates.row_splits[1:], strict=True)
        return tuple(tuple(explained[start:end]) for start, end in bounds)


@dataclass(frozen=True)
class Recall(Named):
    """A side effect that keeps what it was given."""

    recorded: list[Recommendation] = field(default_factory=list)

    def enabled(self, query: Query) -> bool:
        return True

    async def record(self, recommendation: Recommendation) -> None:
        await self.fault.wait()
        self.recorded.append(recommendation)


@dataclass
class Counts:
    """A recorder that keeps what was lost, and why, and what each stage was given and let through."""

    losses: list[tuple[str, str]] = field(default_factory=list)
    stages: list[tuple[str, int, int]] = field(default_factory=list)
    answers: int = 0

    def stage(self, stage: str, seconds: float, candidates_in: int, candidates_out: int) -> None:
        assert seconds >= 0
        self.stages.append((stage, candidates_in, candidates_out))

    def lost(self, stage: str, reason: str) -> None:
        self.losses.append((stage, reason))

    def cache(self, hit: bool) -> None:
        pass

    def answered(self, recommendation: Recommendation) -> None:
        self.answers += 1
