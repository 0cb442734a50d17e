"""Who comes at the same moment leaves together, and nobody stays behind."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from features.gathering import Gathering


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@given(st.lists(st.lists(st.integers(), max_size=6), max_size=8), st.integers(1, 5))
async def test_all_leave_once_in_the_order_they_came(moments: list[list[int]], largest: int) -> None:
    """Each list comes in one turn of the loop; an empty one is a turn in which nobody does."""
    groups: list[list[int]] = []
    gathering = Gathering(groups.append, largest)
    for coming in moments:
        for one in coming:
            gathering.join(one)
        await turns(1)
    await turns(3 * sum(map(len, moments)) + 3)
    assert [one for group in groups for one in group] == [one for coming in moments for one in coming]
    assert all(0 < len(group) <= largest for group in groups)


async def test_who_comes_turn_after_turn_leaves_together() -> None:
    groups: list[list[int]] = []
    gathering = Gathering(groups.append, largest=10)
    for one in range(4):
        gathering.join(one)
        await turns(1)
    await turns(2)
    assert groups == [[0, 1, 2, 3]]


async def test_who_comes_alone_waits_for_one_turn_more() -> None:
    groups: list[list[str]] = []
    gathering = Gathering(groups.append, largest=10)
    gathering.join("first")
    await turns(2)
    assert groups == [["first"]]
    gathering.join("second")
    await turns(2)
    assert groups == [["first"], ["second"]]


async def test_a_stream_of_comers_keeps_nobody_waiting_once_the_group_is_full() -> None:
    groups: list[list[int]] = []
    gathering = Gathering(groups.append, largest=3)
    for one in range(7):
        gathering.join(one)
        await turns(1)
    assert groups[:2] == [[0, 1, 2], [3, 4, 5]]
