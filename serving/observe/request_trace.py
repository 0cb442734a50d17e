"""One request before and after its batch: its stages, timed, counted and traced, and what it lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

from serving.errors import Deadline
from serving.observe import losses, tracing
from serving.observe.metrics import Recorder

T = TypeVar("T")

Failure = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


@dataclass(slots=True)
class RequestTrace:
    """Of one request; the executor writes it.

    Attributes:
        deadline: seconds on the monotonic clock.
    """

    recorder: Recorder
    deadline: float
    timings_ms: dict[str, float] = field(default_factory=dict)
    degraded: list[str] = field(default_factory=list)

    def stage(self, name: str, candidates_in: int = 0) -> StageTimer:
        """One stage, timed, counted and traced, however it ends."""
        return StageTimer(self, name, candidates_in)

    def lose(self, stage: str, error: Exception) -> None:
        """Names, counts and logs it."""
        reason = type(error).__name__
        self.degraded.append(stage)
        self.recorder.lost(stage, reason)
        tracing.lost(stage, reason)
        losses.log_first(stage, error)

    def seconds(self, budget_ms: float) -> float:
        """What a stage may take: its budget, or what is left of the request's time. Not positive when that is
        over."""
        return min(budget_ms / 1e3, self.deadline - time.monotonic())

    async def attempt(self, stage: str, budget_ms: float, work: Callable[[], Awaitable[T]]) -> T | None:
        """The work's result, or None where it failed or the time ran out, which is counted and named."""
        seconds = self.seconds(budget_ms)
        if seconds <= 0:
            self.lose(stage, Deadline(f"nothing was left of the request's time for {stage}"))
            return None
        try:
            async with asyncio.timeout(seconds):
                return await work()
        except Exception as error:
            self.lose(stage, error)
            return None


class StageTimer:
    """One stage of one request. A class, as a generator takes longer.

    Attributes:
        candidates: how many the stage let through; whoever runs it says it.
    """

    __slots__ = ("_candidates_in", "_name", "_span", "_started", "_trace", "candidates")

    def __init__(self, trace: RequestTrace, name: str, candidates_in: int) -> None:
        self._trace, self._name, self._candidates_in = trace, name, candidates_in
        self.candidates = 0

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        self._span = tracing.span(self._name)
        self._span.__enter__()
        return self

    def __exit__(self, *failure: *Failure) -> None:
        seconds = time.perf_counter() - self._started
        self._trace.timings_ms[self._name] = seconds * 1e3
        self._trace.recorder.stage(self._name, seconds, self._candidates_in, self.candidates)
        tracing.counted(self._candidates_in, self.candidates)
        self._span.__exit__(*failure)
