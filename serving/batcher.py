"""The one queue at the front: requests that wait at the same moment are answered together.

A batch departs when nothing is being computed, when it is full, or when its oldest request has waited long
enough; one with little time left goes at once. Bounded by the callers in flight: each waits for one answer.

Does not belong here: what is done with a batch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")

Answer = Callable[[Sequence[Q]], Awaitable[Sequence["A | Exception"]]]
"""A batch → for each request an answer, or what is raised to it."""


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Q, A]):
    request: Q
    answer: asyncio.Future[A]
    since: float


class MicroBatchQueue(Generic[Q, A]):
    """Within one event loop."""

    def __init__(self, answer: Answer[Q, A], max_batch: int, max_wait_s: float) -> None:
        """Args:
        answer: computes a batch. It never raises for the batch as a whole what one request is to blame for.
        max_batch: requests of a batch at most.
        max_wait_s: seconds that a request waits for others at most, while something is computed.
        """
        self._answer, self._max_batch, self._max_wait_s = answer, max_batch, max_wait_s
        self._waiting: list[_Waiting[Q, A]] = []
        self._computing: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def ask(self, request: Q, hurried: bool = False) -> A:
        """The answer to one request.

        Args:
            hurried: it has little time left, and waits for nobody.
        """
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(request, answer, time.monotonic()))
        if hurried or len(self._waiting) >= self._max_batch:
            self._depart()
        elif not self._computing and len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._turn, 1)
        else:
            self._set_timer()
        return await answer

    def _turn(self, before: int) -> None:
        """Once in every turn of an idle loop: others that came in the same turn go along."""
        if not self._waiting or self._computing:
            return
        if before < len(self._waiting) < self._max_batch:
            asyncio.get_running_loop().call_soon(self._turn, len(self._waiting))
            return
        self._depart()

    def _set_timer(self) -> None:
        if self._timer is None and self._waiting and self._computing:
            left = self._waiting[0].since + self._max_wait_s - time.monotonic()
            self._timer = asyncio.get_running_loop().call_later(max(0.0, left), self._overdue)

    def _overdue(self) -> None:
        self._timer = None
        if self._waiting:
            self._depart()

    def _depart(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        there = [each for each in self._waiting if not each.answer.done()]  # who left is left out
        batch, self._waiting = there[: self._max_batch], there[self._max_batch :]
        if not batch:
            return
        computing = asyncio.get_running_loop().create_task(self._compute(batch))
        self._computing.add(computing)  # the event loop holds tasks weakly
        computing.add_done_callback(self._done)
        self._set_timer()

    def _done(self, computing: asyncio.Task[None]) -> None:
        self._computing.discard(computing)
        if self._waiting and not self._computing:
            self._depart()

    async def _compute(self, batch: list[_Waiting[Q, A]]) -> None:
        try:
            answers = await self._answer([each.request for each in batch])
        except Exception as error:
            answers = [error] * len(batch)
        for waiting, answer in zip(batch, answers, strict=True):
            if waiting.answer.done():
                continue
            if isinstance(answer, Exception):
                waiting.answer.set_exception(answer)
            else:
                waiting.answer.set_result(answer)
