"""Who waits at the same moment is computed together; nobody's fault or leaving is another's loss."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from serving.errors import InvalidFilter
from serving.microbatch import LARGEST, MicroBatcher
from serving.types import CandidateBatch, Computed, Mask, Query
from tests.serving.doubles import query_of


class Compute:
    """Answers with the user's own number; keeps who was asked for together."""

    def __init__(self, fault: Callable[[Sequence[Query]], None] = lambda queries: None) -> None:
        self.groups: list[list[str | None]] = []
        self._fault = fault

    def takes(self, query: Query) -> bool:
        return query.count < 100

    def eligible(self, query: Query) -> Mask:
        if query.filter is not None:
            raise InvalidFilter("filter", "no such field")
        return np.full(3, query.user_id == "1")

    def compute(self, queries: Sequence[Query], allowed: Sequence[Mask]) -> list[Computed]:
        assert [bool(mask[0]) for mask in allowed] == [query.user_id == "1" for query in queries]
        self.groups.append([query.user_id for query in queries])
        self._fault(queries)
        return [answer_to(query) for query in queries]


def answer_to(query: Query) -> Computed:
    items = np.array([int(query.user_id or 0)], np.int32)
    return Computed(CandidateBatch.of(items, np.ones(1, np.float32)), personal=True)


def of(user: int, **fields: Any) -> Query:
    return query_of(user_id=str(user), deadline=time.monotonic() + 60, **fields)


async def asked(batcher: MicroBatcher, queries: Sequence[Query]) -> list[int | BaseException | None]:
    """Each one's item, None where the stages are to be asked."""
    found = await asyncio.gather(*map(batcher.compute, queries), return_exceptions=True)
    return [int(one.batch.item_index[0]) if isinstance(one, Computed) else one for one in found]


async def test_who_waits_at_the_same_moment_is_computed_together() -> None:
    compute = Compute()
    batcher = MicroBatcher(compute)
    assert await asked(batcher, [of(user) for user in range(5)]) == [0, 1, 2, 3, 4]
    assert compute.groups == [["0", "1", "2", "3", "4"]]


async def test_who_is_alone_or_unlike_the_others_is_left_to_the_stages() -> None:
    compute = Compute()
    batcher = MicroBatcher(compute)
    assert await asked(batcher, [of(7)]) == [None]
    assert await asked(batcher, [of(7), of(8, count=100), of(9)]) == [7, None, 9]
    assert await asked(batcher, [of(7), of(8, count=100)]) == [None, None]
    assert compute.groups == [["7", "9"]]


async def test_a_crowd_is_computed_in_groups_and_others_get_a_turn_between() -> None:
    compute, turns = Compute(), []
    batcher = MicroBatcher(compute)
    waiting = asyncio.ensure_future(asked(batcher, [of(user) for user in range(2 * LARGEST + 3)]))
    while not waiting.done():
        turns.append(len(compute.groups))
        await asyncio.sleep(0)
    assert waiting.result() == list(range(2 * LARGEST + 3))
    assert [len(group) for group in compute.groups] == [LARGEST, LARGEST, 3]
    assert {1, 2} <= set(turns)


async def test_what_fails_together_is_left_to_the_stages(caplog: pytest.LogCaptureFixture) -> None:
    def fails(queries: Sequence[Query]) -> None:
        raise FloatingPointError("a damaged row")

    with caplog.at_level(logging.WARNING):
        assert await asked(MicroBatcher(Compute(fails)), [of(1), of(2)]) == [None, None]
    assert "2 queries could not be computed as one" in caplog.text


async def test_a_filter_that_does_not_fit_is_its_senders_alone() -> None:
    found = await asked(MicroBatcher(Compute()), [of(1), of(2, filter={"colour": {"eq": "red"}}), of(3)])
    assert isinstance(found[1], InvalidFilter)
    assert [found[0], found[2]] == [1, 3]


async def test_who_has_left_or_is_too_late_is_not_computed() -> None:
    compute = Compute()
    batcher = MicroBatcher(compute)
    late = replace(of(3), deadline=time.monotonic() - 1)
    tasks = [asyncio.ensure_future(batcher.compute(query)) for query in (of(1), of(2), late, of(4))]
    asyncio.get_running_loop().call_soon(tasks[1].cancel)
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[1], asyncio.CancelledError)
    assert found[2] is None
    assert compute.groups == [["1", "4"]]
    assert [one.batch.item_index[0] for one in (found[0], found[3]) if isinstance(one, Computed)] == [1, 4]
