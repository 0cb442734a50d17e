"""What happened to one request so far: its stages, timed, counted and traced, and what it lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

from serving.errors import Deadline, InvalidFilter
from serving.observe import tracing
from serving.observe.metrics import Recorder
from serving.types import Step

log = logging.getLogger(__name__)

T = TypeVar("T")
_told: set[tuple[str, str]] = set()
"""Losses that this process has logged, by stage and class of error; each may come with every request."""

Failure = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


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

    def stage(self, name: str, candidates_in: int = 0) -> Passage:
        """One stage, timed, counted and traced, however it ends."""
        return Passage(self, name, candidates_in)

    def lose(self, stage: str, error: Exception) -> None:
        """Names and counts it. The first of its kind is logged with its traceback: a count alone says nothing
        of the cause."""
        reason = type(error).__name__
        self.degraded.append(stage)
        self.recorder.lost(stage, reason)
        tracing.lost(stage, reason)
        if (stage, reason) not in _told:
            _told.add((stage, reason))
            log.warning("%s was lost; more of it is only counted", stage, exc_info=error)

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
        except InvalidFilter:
            raise  # the client's mistake, not the stage's
        except Exception as error:
            self.lose(stage, error)
            return None

    def took(self, step: Step) -> None:
        """A stage that somebody else ran and timed."""
        self.timings_ms[step.stage] = step.ms
        self.recorder.stage(step.stage, step.ms / 1e3, step.candidates_in, step.candidates_out)


class Passage:
    """A request's passage through one stage. A class, as a generator takes longer and a request has ten.

    Attributes:
        candidates: how many the stage let through; whoever runs it says it.
    """

    __slots__ = ("_candidates_in", "_ledger", "_name", "_span", "_started", "candidates")

    def __init__(self, ledger: Ledger, name: str, candidates_in: int) -> None:
        self._ledger, self._name, self._candidates_in = ledger, name, candidates_in
        self.candidates = 0

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        self._span = tracing.span(self._name)
        self._span.__enter__()
        return self

    def __exit__(self, *failure: *Failure) -> None:
        seconds = time.perf_counter() - self._started
        self._ledger.timings_ms[self._name] = seconds * 1e3
        self._ledger.recorder.stage(self._name, seconds, self._candidates_in, self.candidates)
        tracing.counted(self._candidates_in, self.candidates)
        self._span.__exit__(*failure)
