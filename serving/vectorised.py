"""What the recommendation pipeline computes, from retrieval to diversity, for several queries at once.

A call of numpy costs more than its work on one user's few hundred candidates, and a stage is dozens of calls;
here a call works for all queries, on matrices with a row for each. The answers are those of the stages one
query at a time, within float32 rounding, which a test holds them to. Rows are ragged: what is missing is item
`n`, one past the catalogue.

Does not belong here: who waits together (`serving.microbatch`), and what happens when this fails: the
executor then asks the stages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from serving.config import DiversityConfig, RetrievalConfig
from serving.diversity.mmr import mmr_rows, unit
from serving.errors import InvariantViolation
from serving.pipeline import DIVERSITY, RANKER
from serving.retrieval.index import top_k_rows
from serving.retrieval.popular import first_allowed_rows
from serving.types import CandidateBatch, Computed, Float32, Int32, Mask, Query, Step
from training.models.arrays import Int64
from training.models.blend import Blend
from training.models.linear import WHOLE_ROWS, LinearItemModel
from training.models.ranker import AdditiveRanker
from training.models.ranking_features import RankingFeatures
from training.models.statistics import ItemStatistics
from training.models.two_tower import TwoTowerScorer

MOST_ITEMS = WHOLE_ROWS
"""Items of the largest catalogue this is for: matrices are queries by items, and beyond it a linear model's
whole rows cost more than what is asked of them."""

Scored = dict[str, tuple[Int32, Float32]]
"""Source → items [b, k] of every query, best first, and their scores."""


@dataclass(slots=True)
class _Steps:
    """The stages so far: each one's name and ms, how many candidates every query had before and after, and
    whose stage it was."""

    queries: int
    taken: list[tuple[str, float, Int64, Int64, Mask]] = field(default_factory=list)
    left: Int64 = field(init=False)

    def __post_init__(self) -> None:
        self.left = np.zeros(self.queries, np.int64)

    @contextmanager
    def stage(self, name: str, whose: Mask | None = None) -> Iterator[None]:
        """Whoever runs the stage says in `left` what every query has after it."""
        before, started = self.left, time.perf_counter()
        yield
        ms = (time.perf_counter() - started) * 1e3
        everybody = np.ones(self.queries, bool)
        self.taken.append((name, ms, before, self.left, everybody if whose is None else whose))

    def of(self, row: int) -> tuple[Step, ...]:
        return tuple(
            Step(name, ms, int(before[row]), int(after[row]))
            for name, ms, before, after, whose in self.taken
            if whose[row]
        )


class Vectorised:
    """The two-tower, linear and popular sources, the calibrated blend, the filters, the additive ranker and
    MMR."""

    def __init__(
        self,
        two_tower: TwoTowerScorer,
        linear: Mapping[str, LinearItemModel],
        statistics: ItemStatistics,
        blend: Blend,
        features: RankingFeatures,
        ranker: AdditiveRanker,
        eligible: Callable[[Query], Mask],
        retrieval: RetrievalConfig,
        diversity: DiversityConfig,
    ) -> None:
        """Args:
        linear: source → its model. In the pipeline's order they stand after `two_tower`, before `popular`.
        eligible: bool [n]: what matches the query's filter and is not hidden.
        """
        self._two_tower, self._statistics = two_tower, statistics
        self._linear = tuple((name, model, getattr(retrieval, name)) for name, model in linear.items())
        self._blend, self._features, self._ranker = blend, features, ranker
        self._retrieval, self._pool = retrieval, diversity.pool
        self._vectors = unit(two_tower.item_vectors)
        self._personal = ("two_tower", *linear)
        self.eligible = eligible

    def takes(self, query: Query) -> bool:
        """Whether the query is like most: with a history, and asking for no more than every source brings and
        MMR picks from."""
        return len(query.history) > 0 and query.count <= min(self._retrieval.popular, self._pool)

    def compute(self, queries: Sequence[Query], allowed: Sequence[Mask]) -> list[Computed]:
        """Args:
            queries: which it takes; all of one moment, that of the first.
            allowed: `eligible` of each.

        Raises:
            InvariantViolation: the ranker gave a score that is not finite.
        """
        steps, free = _Steps(len(queries)), np.stack(allowed)
        with steps.stage("retrieval"):
            scored = self._retrieve(queries, free, steps)
            steps.left = np.sum([self._found(each) for each in scored.values()], axis=0)
        with steps.stage("blend"):
            items, probability, bits = self._blend.blend_rows(
                scored, self._retrieval.candidates, len(self._vectors)
            )
            steps.left = self._count(items)
        with steps.stage("filter"):
            items = self._filtered(items, free)
            steps.left = self._count(items)
        with steps.stage(RANKER, whose=steps.left > 0):
            score = self._score(queries, items)
            ranked = np.argsort(-score, axis=1, kind="stable")
        strength, wanted = _strength(queries), np.minimum(steps.left, [query.count for query in queries])
        with steps.stage(DIVERSITY, whose=(strength > 0) & (steps.left > 0)):
            top = self._select(items, score, ranked, int(wanted.max()), strength)
            steps.left = wanted
        row = np.arange(len(queries))[:, None]
        shown = CandidateBatch(items[row, top], bits[row, top], probability[row, top], None, score[row, top])
        personal = np.sum([self._found(scored[name]) for name in self._personal], axis=0) > 0
        return [
            Computed(_row_of(shown, i, count), bool(personal[i]), steps.of(i))
            for i, count in enumerate(wanted.tolist())
        ]

    def _retrieve(self, queries: Sequence[Query], free: Mask, steps: _Steps) -> Scored:
        scored: Scored = {}
        users = [(query.history.item_index, query.user_features) for query in queries]

        @contextmanager
        def source(name: str) -> Iterator[None]:
            with steps.stage(f"source:{name}"):
                yield
                steps.left = self._found(scored[name])
            steps.left = np.zeros_like(steps.left)

        with source("two_tower"):
            vectors = np.stack([self._two_tower.user_vector(*user) for user in users])
            items, cosine = top_k_rows(
                vectors @ self._two_tower.item_vectors.T, self._retrieval.two_tower, free
            )
            scored["two_tower"] = items, cosine * np.float32(self._two_tower.scale)
        for name, model, limit in self._linear:
            with source(name):
                scores = np.stack([model.score(history) for history, _ in users])
                scored[name] = top_k_rows(scores, limit, free)
        with source("popular"):
            scored["popular"] = self._popular(queries[0].now, free)
        return scored

    def _popular(self, now: float, free: Mask) -> tuple[Int32, Float32]:
        popularity = self._statistics.at(now).popularity_month
        order = np.argsort(-popularity, kind="stable").astype(np.int32)
        items = first_allowed_rows(order, free, self._retrieval.popular)
        return items, np.append(popularity, np.float32(0))[items]

    def _filtered(self, items: Int32, free: Mask) -> Int32:
        """The items, without those that may not be shown, whatever brought them."""
        shown = np.take_along_axis(free, np.minimum(items, len(self._vectors) - 1), axis=1)
        return np.where(shown, items, np.int32(len(self._vectors)))

    def _score(self, queries: Sequence[Query], items: Int32) -> Float32:
        """float32 [b, m], the ranker's; -inf where there is no item."""
        row, column = (items < len(self._vectors)).nonzero()
        features = self._features.compute_rows(
            [query.history.item_index for query in queries],
            [query.user_features for query in queries],
            queries[0].now,
            row,
            items[row, column],
        )
        scores = self._ranker.score(features)
        if not np.isfinite(scores).all():
            raise InvariantViolation("the ranker gave a score that is not finite")
        table = np.full(items.shape, -np.inf, np.float32)
        table[row, column] = scores
        return table

    def _select(self, items: Int32, score: Float32, ranked: Int64, count: int, strength: Float32) -> Int64:
        """Columns [b, count] to show, best first or, where a strength says so, chosen for variety."""
        pool, diverse = ranked[:, : self._pool], np.flatnonzero(strength)
        top = ranked[:, :count].copy()
        if len(diverse) and count > 1:
            pool = pool[diverse]
            relevance = np.take_along_axis(score[diverse], pool, axis=1)
            there = np.minimum(np.take_along_axis(items[diverse], pool, axis=1), len(self._vectors) - 1)
            chosen = mmr_rows(relevance, self._vectors[there], count, strength[diverse])
            top[diverse] = np.take_along_axis(pool, chosen, axis=1)
        return top

    def _found(self, brought: tuple[Int32, Float32]) -> Int64:
        return self._count(brought[0])

    def _count(self, items: Int32) -> Int64:
        counts: Int64 = (items < len(self._vectors)).sum(1)
        return counts


def _strength(queries: Sequence[Query]) -> Float32:
    """Of each query's diversity, 0 where it wants none."""
    wanted = (query.diversity for query in queries)
    return np.array([each.strength if each.method == "mmr" else 0 for each in wanted], np.float32)


def _row_of(tables: CandidateBatch, row: int, count: int) -> CandidateBatch:
    """The first of one row, where every column of the batch is a matrix."""
    assert tables.score is not None
    return CandidateBatch(
        tables.item_index[row, :count],
        tables.source[row, :count],
        tables.retrieval_score[row, :count],
        None,
        tables.score[row, :count],
    )
