"""The executor: it alone owns order, gathering, deadlines and the failure policy.

Read `Pipeline.run` from top to bottom: that is a request. No stage calls another, and no stage's failure
becomes the request's unless nothing is left to answer with.

Does not belong here: what one step does (`serving.steps`), and the clock (`serving.program`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import groupby

import numpy as np

from serving.batch import Queries
from serving.batcher import MicroBatchQueue
from serving.config import BatchingConfig, Budgets
from serving.errors import Unavailable
from serving.observe import tracing
from serving.observe.metrics import NullRecorder, Recorder
from serving.observe.request_trace import RequestTrace
from serving.program import Here, Program, Runner
from serving.stages import (
    AnswerCache,
    Blender,
    Explainer,
    Filter,
    Hydrator,
    QueryHydrator,
    Scorer,
    Selector,
    SideEffect,
    Source,
)
from serving.state import State, Timing
from serving.steps import FEATURES, RETRIEVAL, SOURCE, Blend, Explain, Keep, Rank, Retrieve, Select, Step
from serving.types import Int32, Mask, Query, Recommendation, Shown, Tier

CACHE = "cache"
"""What `timings` and metrics call an answer that was computed before; all sources are `RETRIEVAL`."""

TOO_LATE = "the deadline passed before any source answered"

SIDE_EFFECT_TIMEOUT_S = 1.0
"""Seconds; a side effect has nobody waiting for it, and must not pile up behind a dead sink."""

HURRIED = 2.0
"""A request with less time left than so many times the longest wait for others waits for nobody."""


@dataclass(frozen=True)
class Pipeline:
    """Stages in the order they run. `scorer`, `selector` and `explainer` may be absent: items similar to an
    item are retrieved and filtered, nothing more.

    Attributes:
        hidden: the items that may not be returned for a query.
        user_width: of the encoded user features.
        admit: raises what is wrong with a query before it is gathered with others.
        runners: stage (`serving.steps.Step.stage`) → where it runs; the others run by `here`.
    """

    sources: tuple[Source, ...]
    blender: Blender
    hidden: Callable[[Query], Int32]
    user_width: int
    admit: Callable[[Query], object] = lambda query: None
    filters: tuple[Filter, ...] = ()
    query_hydrator: QueryHydrator | None = None
    hydrators: tuple[Hydrator, ...] = ()
    scorer: Scorer | None = None
    selector: Selector | None = None
    explainer: Explainer | None = None
    side_effects: tuple[SideEffect, ...] = ()
    cache: AnswerCache | None = None
    here: Runner = field(default_factory=Here)
    runners: Mapping[str, Runner] = field(default_factory=dict)
    budgets: Budgets = field(default_factory=Budgets)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    recorder: Recorder = field(default_factory=NullRecorder)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        budgets = self.budgets
        steps: list[Step] = [
            *(Retrieve(source, bit, budgets.source / 1e3) for bit, source in enumerate(self.sources)),
            Blend(self.blender, budgets.source / 1e3),
            Keep(self.filters, budgets.source / 1e3),
        ]
        if self.scorer is not None:
            steps.append(Rank(self.hydrators, self.scorer, budgets.ranker / 1e3))
        steps.append(Select(self.selector, budgets.diversity / 1e3))
        if self.explainer is not None:
            steps.append(Explain(self.explainer, budgets.explainer / 1e3))
        return tuple(steps)

    @cached_property
    def programs(self) -> tuple[tuple[Runner, Program], ...]:
        """Neighbouring steps with the same runner are one program."""
        by_runner = groupby(self.steps, lambda step: self.runners.get(step.stage, self.here))
        return tuple((runner, Program(tuple(steps))) for runner, steps in by_runner)

    def program_of(self, stages: Collection[str]) -> Program:
        """The steps of these stages alone."""
        return Program([step for step in self.steps if step.stage in stages])

    @cached_property
    def _queue(self) -> MicroBatchQueue[Query, Recommendation]:
        return MicroBatchQueue(self._answers, self.batching.max_batch, self.batching.max_wait_ms / 1e3)

    async def run(self, query: Query) -> Recommendation:
        """Answers one query, together with those that wait at the same moment.

        Raises:
            Unavailable: every source was lost, or the deadline passed with nothing in hand.
            InvalidFilter: the client's mistake.
        """
        self.admit(query)
        trace = RequestTrace(self.recorder, query.deadline)
        query = await self._hydrate(query, trace)
        recommendation = self._kept(query, trace)
        if recommendation is None:
            left_s = query.deadline - time.monotonic()
            hurried = left_s < HURRIED * self.batching.max_wait_ms / 1e3
            found = await self._queue.ask(tracing.carried(query), hurried)
            recommendation = replace(
                found,
                degraded=(*trace.degraded, *found.degraded),
                timings_ms={**trace.timings_ms, **found.timings_ms},
            )
            if self.cache is not None and not recommendation.degraded:
                self.cache.keep(recommendation)
        self.recorder.answered(recommendation)
        return recommendation

    async def _hydrate(self, query: Query, trace: RequestTrace) -> Query:
        hydrator = self.query_hydrator
        with trace.stage(FEATURES):
            if hydrator is not None and hydrator.enabled(query):
                work = partial(hydrator.hydrate_query, query)
                query = await trace.attempt(FEATURES, self.budgets.features, work) or query
        return query

    def _kept(self, query: Query, trace: RequestTrace) -> Recommendation | None:
        """The cache's answer, if any. What is degraded already would be answered otherwise when whole."""
        if self.cache is None or trace.degraded:
            return None
        with trace.stage(CACHE) as passed:
            found = self.cache.find(query)
            passed.candidates = 0 if found is None else len(found.shown)
        self.recorder.cache(found is not None)
        return None if found is None else replace(found, query=query, timings_ms=trace.timings_ms)

    async def _answers(self, queries: Sequence[Query]) -> list[Recommendation | Exception]:
        batch = Queries.of(queries, self.user_width, [self.hidden(query) for query in queries])
        deadline = np.array([query.deadline for query in queries], np.float64)
        state = State.begin(batch, deadline, len(self.sources))
        for runner, program in self.programs:
            state = await runner.run(program, state)
        state = state.took(_retrieval(state))
        report(state, self.recorder)
        answered = self._answered(state)
        return [self._answer(state, row, query, bool(answered[row])) for row, query in enumerate(queries)]

    def _answered(self, state: State) -> Mask:
        """bool [b]: the requests to which not every source was lost that is for them."""
        answered = np.zeros(len(state), np.bool_)
        for step in self.steps:
            if isinstance(step, Retrieve):
                here = step.takes(state)
                for loss in state.losses:
                    if loss.stage == step.name:
                        here[loss.rows] = False
                answered |= here
        return answered

    def _answer(self, state: State, row: int, query: Query, answered: bool) -> Recommendation | Exception:
        if not answered:
            return Unavailable(TOO_LATE if time.monotonic() >= query.deadline else "no source answered")
        if why := state.refused[row]:
            return Unavailable(why)
        candidates = state.candidates
        at = slice(*candidates.row_splits[row : row + 2])
        score = None if candidates.score is None else candidates.score[at]
        ranked = score is not None and not np.isnan(score).any()
        return Recommendation(
            query=query,
            shown=Shown(
                candidates.item_index[at],
                candidates.source[at],
                candidates.retrieval_score[at],
                score if ranked else None,
            ),
            sources=tuple(source.name for source in self.sources),
            tier=_tier(query, self._personal(state, row, ranked)),
            explanations=state.explanations[row],
            degraded=tuple(loss.stage for loss in state.losses if row in loss.rows),
            timings_ms={each.stage: each.seconds * 1e3 for each in state.timings if each.rows[row]},
        )

    def _personal(self, state: State, row: int, ranked: bool) -> bool:
        """What a personal source brought; where no source is personal, what was ranked for this user."""
        personal = sum(1 << bit for bit, source in enumerate(self.sources) if source.personal)
        if not personal:
            return ranked
        return bool(int(state.contributed[row]) & personal)

    async def record(self, recommendation: Recommendation) -> None:
        """Runs the side effects, after the response has gone."""
        for effect in self.side_effects:
            if not effect.enabled(recommendation.query):
                continue
            try:
                async with asyncio.timeout(SIDE_EFFECT_TIMEOUT_S):
                    await effect.record(recommendation)
            except Exception as error:
                self.recorder.lost(effect.name, type(error).__name__)


def _retrieval(state: State) -> Timing:
    """All sources as one stage."""
    sources = [each for each in state.timings if each.stage.startswith(SOURCE)]
    b = len(state)
    return Timing(
        RETRIEVAL,
        min((each.began for each in sources), default=0.0),
        sum(each.seconds for each in sources),
        np.zeros(b, np.int64),
        np.sum([np.zeros(b, np.int64), *(each.candidates_out for each in sources)], axis=0),
        np.any([np.zeros(b, np.bool_), *(each.rows for each in sources)], axis=0),
    )


def report(state: State, recorder: Recorder) -> None:
    """Tells what each request of a batch went through."""
    for timing in state.timings:
        for row in np.flatnonzero(timing.rows).tolist():
            recorder.stage(
                timing.stage, timing.seconds, int(timing.candidates_in[row]), int(timing.candidates_out[row])
            )
    for loss in state.losses:
        for _ in loss.rows:
            recorder.lost(loss.stage, loss.reason)


def _tier(query: Query, personal: bool) -> Tier:
    if not personal:
        return "popular"
    return "session" if query.session else "personalized"
