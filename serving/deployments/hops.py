"""One call for all who wait at the same moment for a stage that runs elsewhere.

A call through Serve costs milliseconds of CPU on both sides, whatever it carries; what it carries costs
microseconds. Each request keeps its own arguments, answer and failure: who gives up leaves the others alone,
and the call ends with the last of them.

Does not belong here: Ray (a hop is given the method to call), and what a stage makes of its arguments.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from features.gathering import Gathering
from serving.errors import ServingError
from serving.types import Query

log = logging.getLogger(__name__)

LARGEST = 16
"""Requests that one call carries. At 32 connections 16 answered a third more a second than 8; more would
leave the ingress without work while a replica computes, and other replicas without requests."""

SHARE_OF_TIME = 0.8
"""Of the time that a stage has, what one request may take on the replica: one that hangs has to be given up
there, early enough for what others brought to arrive."""


class StageFailed(ServingError):
    """A stage failed for one request on its replica; the text names its error's class."""


@dataclass(frozen=True, slots=True)
class Failed:
    """What crosses instead of an answer: the class of an error, as errors may not survive pickling."""

    reason: str


Arguments = tuple[Any, ...]
Call = Callable[[str, str, tuple[Arguments, ...], float], Awaitable[Sequence[Any]]]
"""(method, version, arguments of each request, seconds each may take) → for each an answer or `Failed`."""


async def each(
    one: Callable[..., Awaitable[Any]], asked: Sequence[Arguments], within_s: float
) -> tuple[Any, ...]:
    """The replica's side: side by side, so that one that waits or fails costs the others nothing."""
    if len(asked) == 1:
        return (await _outcome(one, asked[0], within_s),)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_outcome(one, arguments, within_s)) for arguments in asked]
    return tuple(task.result() for task in tasks)


async def _outcome(one: Callable[..., Awaitable[Any]], arguments: Arguments, within_s: float) -> Any:
    try:
        async with asyncio.timeout(within_s):
            return await one(*arguments)
    except Exception as error:
        log.warning("a request failed: %r", error)
        return Failed(type(error).__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    version: str
    arguments: Arguments
    answer: asyncio.Future[Any]


class Hop:
    """The calls of one method of one stage, within one event loop. Bounded by the callers in flight: each
    waits for one answer."""

    def __init__(self, call: Call, method: str, within_s: float, budget_s: float) -> None:
        """Args:
        within_s: what the replica gives each request.
        budget_s: what a caller waits at most. One who has much less goes alone: it must not wait as long as
            others do for somebody slow.
        """
        self._call, self._method = call, method
        self._within_s, self._budget_s = within_s, budget_s
        self._gathering = Gathering(self._depart, LARGEST)
        self._calls: set[asyncio.Task[None]] = set()

    def __call__(self, version: str, query: Query, *arguments: Any) -> asyncio.Future[Any]:
        """The answer to one request; cancelled, it is left out.

        Raises:
            StageFailed: the stage failed for this request alone.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(version, (query, *arguments), answer)
        if query.deadline - time.monotonic() < SHARE_OF_TIME * self._budget_s:
            self._start([waiting])
        else:
            self._gathering.join(waiting)
        return answer

    def __len__(self) -> int:
        """Calls in flight."""
        return len(self._calls)

    def _depart(self, group: list[_Waiting]) -> None:
        by_version: dict[str, list[_Waiting]] = {}
        for waiting in group:
            if not waiting.answer.done():
                by_version.setdefault(waiting.version, []).append(waiting)
        for there in by_version.values():
            self._start(there)

    def _start(self, there: list[_Waiting]) -> None:
        # In a context of its own: in that of a request, Serve ends the call when this one's client leaves.
        call = asyncio.get_running_loop().create_task(self._carry(there), context=contextvars.Context())
        self._calls.add(call)  # the event loop holds tasks weakly
        call.add_done_callback(self._calls.discard)
        for waiting in there:
            waiting.answer.add_done_callback(partial(_left, call, there))

    async def _carry(self, there: list[_Waiting]) -> None:
        asked = tuple(waiting.arguments for waiting in there)
        try:
            answers = await self._call(self._method, there[0].version, asked, self._within_s)
        except Exception as error:
            for waiting in there:
                _settle(waiting.answer, error)
        except asyncio.CancelledError:
            for waiting in there:
                _settle(waiting.answer, StageFailed(f"{self._method}: the call was cancelled"))
            raise
        else:
            for waiting, answer in zip(there, answers, strict=True):
                failed = isinstance(answer, Failed)
                _settle(waiting.answer, StageFailed(f"{self._method}: {answer.reason}") if failed else answer)


def _left(call: asyncio.Task[None], there: list[_Waiting], _: asyncio.Future[Any]) -> None:
    if all(waiting.answer.done() for waiting in there):
        call.cancel()


def _settle(answer: asyncio.Future[Any], outcome: Any) -> None:
    if answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)
