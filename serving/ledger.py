"""What happened to one request so far: its stages, timed, counted and traced, and what it lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from serving import tracing
from serving.errors import InvalidFilter
from serving.metrics import Recorder
from serving.types import Step

T = TypeVar("T")


@dataclass(slots=True)
class Passed:
    """How many candidates a stage let through; whoever runs the stage says it."""

    candidates: int = 0


@dataclass(slots=True)
class Ledger:
    """Of one request; the executor writes it.

    Attributes:
        deadline: seconds on the monotonic clock.
    """

    recorder: Recorder
    deadline: float
    timings_ms: dict[str, float] = field(default_factory=dict)
    degraded: list[str] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str, candidates_in: int = 0) -> Iterator[Passed]:
        """One stage, timed, counted and traced, however it ends."""
        passed, started = Passed(), time.perf_counter()
        with tracing.span(name) as span:
            try:
                yield passed
            finally:
                seconds = time.perf_counter() - started
                self.timings_ms[name] = seconds * 1e3
                self.recorder.stage(name, seconds, candidates_in, passed.candidates)
                tracing.counted(span, candidates_in, passed.candidates)

    def lose(self, stage: str, reason: str) -> None:
        self.degraded.append(stage)
        self.recorder.lost(stage, reason)
        tracing.lost(stage, reason)

    def seconds(self, budget_ms: float) -> float:
        """What a stage may take: its budget, or what is left of the request's time. Not positive when that is
        over."""
        return min(budget_ms / 1e3, self.deadline - time.monotonic())

    async def attempt(self, stage: str, budget_ms: float, work: Callable[[], Awaitable[T]]) -> T | None:
        """The work's result, or None where it failed or the time ran out, which is counted and named."""
        seconds = self.seconds(budget_ms)
        if seconds <= 0:
            self.lose(stage, "Deadline")
            return None
        try:
            async with asyncio.timeout(seconds):
                return await work()
        except InvalidFilter:
            raise  # the client's mistake, not the stage's
        except Exception as error:
            self.lose(stage, type(error).__name__)
            return None

    def took(self, step: Step) -> None:
        """A stage that somebody else ran and timed."""
        self.timings_ms[step.stage] = step.ms
        self.recorder.stage(step.stage, step.ms / 1e3, step.candidates_in, step.candidates_out)
