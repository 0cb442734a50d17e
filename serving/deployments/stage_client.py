"""The client of a stage that runs on other replicas: one call a batch, however many stages they hold.

The call names the bundle's version, so that a replica which holds another one refuses instead of answering
about other items. Requests, candidates and scores cross, never embeddings or feature columns.

Does not belong here: Ray (a client is given the method to call), and how a replica works.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import numpy as np

from serving.batch import Candidates, UInt32
from serving.program import Program
from serving.state import Loss, State, Timing
from serving.types import Explanation

Stages = tuple[str, ...]
Call = Callable[[str, str, Stages, State], Awaitable["Outcome"]]
"""(version, pipeline, stages, state as `sent` makes it) → what these stages made of it."""

SHARE_OF_TIME = 0.8
"""Of the time that a stage has, what it may take on the replica: one that hangs has to be given up there,
early enough for what the other stages made to arrive."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What crosses back: of a `State` what the stages may have changed."""

    contributed: UInt32
    candidates: Candidates
    explanations: tuple[tuple[Explanation, ...], ...]
    refused: tuple[str | None, ...]
    losses: tuple[Loss, ...]
    timings: tuple[Timing, ...]

    @staticmethod
    def after(state: State) -> Outcome:
        return Outcome(
            state.contributed,
            replace(state.candidates, columns={}),
            state.explanations,
            state.refused,
            state.losses,
            state.timings,
        )

    def of(self, state: State) -> State:
        """The state that was sent, after these stages."""
        return replace(
            state,
            contributed=self.contributed,
            candidates=self.candidates,
            explanations=self.explanations,
            refused=self.refused,
            losses=(*state.losses, *self.losses),
            timings=(*state.timings, *self.timings),
        )


@dataclass(frozen=True, slots=True, eq=False)
class StageClient:
    """Runs the steps of a program elsewhere (`serving.program.Runner`).

    Attributes:
        version: of the bundle that the pipeline was composed for.
        pipeline: which pipeline of the bundle.
        stages: which of its stages the replicas hold.
    """

    call: Call
    version: str
    pipeline: str
    stages: Stages

    async def run(self, program: Program, state: State) -> State:
        """The state after the program; without all of its steps where the call failed or took longer than
        their budgets, which leaves out nothing that came before."""
        began = time.monotonic()
        budget_s = sum(step.budget_s for step in program.steps)
        left_s = min(budget_s, float(state.deadline.max(initial=-np.inf)) - began)
        try:
            async with asyncio.timeout(left_s):
                outcome = await self.call(self.version, self.pipeline, self.stages, sent(state, began))
        except Exception as error:
            return program.lost(state, error, time.monotonic() - began)
        return outcome.of(state)


def sent(state: State, now: float) -> State:
    """What crosses to a replica: no columns, nothing of what happened before, and as deadlines the seconds
    that each request may take, as the clocks of two machines are not comparable."""
    return replace(
        state,
        queries=state.queries.bare(),
        deadline=SHARE_OF_TIME * (state.deadline - now),
        candidates=replace(state.candidates, columns={}),
        losses=(),
        timings=(),
    )


def received(state: State, now: float) -> State:
    """The state that was sent, with deadlines on this machine's clock."""
    return replace(state, deadline=now + state.deadline)
