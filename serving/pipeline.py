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
from functools import cached_property
from itertools import groupby

import numpy as np

from serving.batch import Queries
from serving.batcher import MicroBatchQueue
from serving.config import BatchingConfig, Budgets
from serving.errors import Unavailable
from serving.hydration import Hydrated, from_memory, read
from serving.observe import tracing
from serving.observe.metrics import NullRecorder, Recorder
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
from serving.state import Loss, State, Timing
from serving.steps import RETRIEVAL, SOURCE, Blend, Explain, Keep, Rank, Retrieve, Select, Step
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
        admit: raises what is wrong with a query before it goes into a batch.
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
        query, answer = tracing.carried(query), None
        if known := from_memory(self.query_hydrator, query):
            known, (answer,) = self._from_cache(known)
            (query,) = known.queries
        if answer is None:
            hurried = query.deadline - time.monotonic() < HURRIED * self.batching.max_wait_ms / 1e3
            answer = await self._queue.ask(query, hurried)
            answer = answer if known is None else known.then(0, answer)
        self.recorder.answered(answer)
        return answer

    def _from_cache(self, known: Hydrated) -> tuple[Hydrated, list[Recommendation | None]]:
        """For each request what the cache has for it. One that lost its features would be answered otherwise
        with them, and is not looked for."""
        found: list[Recommendation | None] = [None] * len(known.queries)
        if self.cache is not None and (rows := np.flatnonzero(asked := known.whole)).size:
            began, shown = time.monotonic(), np.zeros(len(asked), np.int64)
            for row in rows.tolist():
                query = known.queries[row]
                if (kept := self.cache.find(query)) is not None:
                    found[row], shown[row] = replace(kept, query=query), len(kept.shown)
                self.recorder.cache(kept is not None)
            known = known.took(CACHE, began, asked, shown)
        report(known.timings, known.losses, self.recorder)
        tracing.stages([query.traceparent for query in known.queries], known.timings, known.losses)
        return known, [None if each is None else known.then(row, each) for row, each in enumerate(found)]

    async def _answers(self, queries: Sequence[Query]) -> list[Recommendation | Exception]:
        """A batch: its features in one read, what the cache has, and the rest computed."""
        known = await read(self.query_hydrator, queries, self.budgets.features / 1e3)
        known, found = self._from_cache(known)
        answers: list[Recommendation | Exception | None] = [*found]
        rest = [row for row, answer in enumerate(found) if answer is None]
        for row, answer in zip(rest, await self._computed([known.queries[row] for row in rest]), strict=True):
            answers[row] = answer
            if isinstance(answer, Recommendation):
                answers[row] = answer = known.then(row, answer)
                if self.cache is not None and not answer.degraded:
                    self.cache.keep(answer)
        return [answer for answer in answers if answer is not None]

    async def _computed(self, queries: Sequence[Query]) -> list[Recommendation | Exception]:
        if not queries:
            return []
        batch = Queries.of(queries, self.user_width, [self.hidden(query) for query in queries])
        deadline = np.array([query.deadline for query in queries], np.float64)
        state = State.begin(batch, deadline, len(self.sources))
        for runner, program in self.programs:
            state = await runner.run(program, state)
        state = state.took(_retrieval(state))
        report(state.timings, state.losses, self.recorder)
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


def report(timings: Sequence[Timing], losses: Sequence[Loss], recorder: Recorder) -> None:
    """Records what each request of a batch went through."""
    for timing in timings:
        for row in np.flatnonzero(timing.rows).tolist():
            recorder.stage(
                timing.stage, timing.seconds, int(timing.candidates_in[row]), int(timing.candidates_out[row])
            )
    for loss in losses:
        for _ in loss.rows:
            recorder.lost(loss.stage, loss.reason)


def _tier(query: Query, personal: bool) -> Tier:
    if not personal:
        return "popular"
    return "session" if query.session else "personalized"
