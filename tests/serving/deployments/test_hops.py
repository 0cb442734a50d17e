"""One call for those who wait at the same moment: each with its own answer, failure and end."""

import asyncio
import contextvars
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from serving.deployments.hops import LARGEST, Failed, Hop, StageFailed, each
from serving.types import Query
from tests.serving.doubles import query_of

BUDGET_S = 10.0


@dataclass
class Replica:
    """Answers a request with what it asked, doubled; None is a mistake, and what is below zero never ends."""

    calls: list[int] = field(default_factory=list)
    given_s: list[float] = field(default_factory=list)
    cancelled: int = 0
    fault: Exception | None = None

    async def each(self, method: str, version: str, asked: Sequence[Any], within_s: float) -> tuple[Any, ...]:
        self.calls.append(len(asked))
        self.given_s.append(within_s)
        if self.fault is not None:
            raise self.fault
        try:
            return await each(getattr(self, method), asked, within_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def double(self, _: Query, number: Any) -> int:
        if number is not None and number < 0:
            await asyncio.Event().wait()
        doubled: int = number * 2
        return doubled

    def hop(self, within_s: float = BUDGET_S) -> Hop:
        return Hop(self.each, "double", within_s, BUDGET_S)


def query(left_s: float = 2 * BUDGET_S) -> Query:
    return query_of(deadline=time.monotonic() + left_s)


async def turns() -> None:
    """Until nothing is left that could go on at once."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_those_who_wait_together_are_carried_together_and_get_each_its_own() -> None:
    replica = Replica()
    hop = replica.hop()
    assert await asyncio.gather(*(hop("v1", query(), number) for number in range(5))) == [0, 2, 4, 6, 8]
    assert replica.calls == [5]
    await turns()
    assert len(hop) == 0


async def test_one_alone_is_not_kept_waiting_and_many_are_carried_in_parts() -> None:
    replica = Replica()
    hop = replica.hop()
    assert await hop("v1", query(), 1) == 2
    await asyncio.gather(*(hop("v1", query(), number) for number in range(LARGEST + 1)))
    assert replica.calls == [1, LARGEST, 1]


async def test_bundles_do_not_mix() -> None:
    replica = Replica()
    hop = replica.hop()
    await asyncio.gather(*(hop(version, query(), 1) for version in ("v1", "v2", "v1")))
    assert sorted(replica.calls) == [1, 2]


async def test_what_fails_for_one_is_lost_to_it_alone() -> None:
    hop = Replica().hop()
    answers = await asyncio.gather(*(hop("v1", query(), each) for each in (1, None)), return_exceptions=True)
    assert answers[0] == 2
    assert isinstance(answers[1], StageFailed)
    assert str(answers[1]) == "double: TypeError"


async def test_what_hangs_for_one_is_given_up_on_the_replica_and_the_others_answered() -> None:
    hop = Replica().hop(within_s=0.01)
    answers = await asyncio.gather(*(hop("v1", query(), each) for each in (1, -1)), return_exceptions=True)
    assert answers[0] == 2
    assert str(answers[1]) == "double: TimeoutError"


async def test_a_call_that_fails_fails_for_all_it_carried() -> None:
    hop = Replica(fault=ConnectionError("gone")).hop()
    answers = await asyncio.gather(*(hop("v1", query(), 1) for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ConnectionError] * 3


async def test_a_call_that_is_cancelled_from_elsewhere_leaves_nobody_waiting() -> None:
    hop = Replica().hop()
    answer = hop("v1", query(), -1)
    await turns()
    [call] = hop._calls
    call.cancel()
    with pytest.raises(StageFailed, match="cancelled"):
        await answer


async def test_who_gives_up_leaves_the_others_and_the_last_ends_the_call() -> None:
    replica = Replica()
    hop = replica.hop()
    waiting = [hop("v1", query(), -1) for _ in range(3)]
    await turns()
    waiting[0].cancel()
    await turns()
    assert (len(hop), replica.cancelled) == (1, 0)
    for answer in waiting[1:]:
        answer.cancel()
    await turns()
    assert (len(hop), replica.cancelled) == (0, 1)


async def test_who_gave_up_before_the_call_is_not_carried() -> None:
    replica = Replica()
    hop = replica.hop()
    waiting = [hop("v1", query(), number) for number in range(3)]
    waiting[1].cancel()
    assert await asyncio.gather(waiting[0], waiting[2]) == [0, 4]
    assert replica.calls == [2]


async def test_who_has_little_time_left_goes_alone() -> None:
    replica = Replica()
    hop = replica.hop()
    await asyncio.gather(
        hop("v1", query(), 1), hop("v1", query(left_s=BUDGET_S / 2), 2), hop("v1", query(), 3)
    )
    assert sorted(replica.calls) == [1, 2]


async def test_a_call_knows_nothing_of_the_request_that_happened_to_start_it() -> None:
    whose: contextvars.ContextVar[str] = contextvars.ContextVar("whose", default="nobody's")
    seen: list[str] = []

    async def call(method: str, version: str, asked: Sequence[Any], within_s: float) -> tuple[Any, ...]:
        seen.append(whose.get())
        return tuple(Failed("") for _ in asked)

    hop = Hop(call, "double", BUDGET_S, BUDGET_S)
    whose.set("ours")
    with pytest.raises(StageFailed):
        await hop("v1", query(), 1)
    assert seen == ["nobody's"]
