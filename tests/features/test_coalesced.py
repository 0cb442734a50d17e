"""One read for all who ask at once, and to each what they would have read alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.coalesced import CoalescingStore
from features.memory_store import MemoryOnlineStore
from features.store import FeatureBatch, OnlineStoreError
from tests.contracts.test_online_store import assert_equal
from tests.features.worlds import films

WORLD = films()
MEMORY = MemoryOnlineStore.from_events(WORLD.schema, WORLD.interactions, WORLD.items, WORLD.users)


class Counting:
    """Reads from memory, when it is let go, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.began: asyncio.Queue[None] = asyncio.Queue()
        self.go = asyncio.Event()
        self.go.set()
        self.broken = False

    async def read_users(self, user_ids: Sequence[str]) -> FeatureBatch:
        self.asked.append(list(user_ids))
        self.began.put_nowait(None)
        await self.go.wait()
        if self.broken or "damaged" in user_ids:
            raise OnlineStoreError("gone")
        return await MEMORY.read_users(user_ids)

    async def read_items(self, item_ids: Sequence[str]) -> FeatureBatch:
        return await MEMORY.read_items(item_ids)

    async def close(self) -> None:
        pass


ids = st.lists(st.sampled_from([*(f"u{i}" for i in range(6)), "nobody"]), max_size=4)


@given(st.lists(ids, min_size=1, max_size=6))
async def test_each_gets_what_they_would_have_read_alone(asking: list[list[str]]) -> None:
    inner = Counting()
    store = CoalescingStore(inner)
    found = await asyncio.gather(*(store.read_users(one) for one in asking))
    for one, rows in zip(asking, found, strict=True):
        assert_equal(rows, await MEMORY.read_users(one))
    assert len(inner.asked) == 1
    assert len(inner.asked[0]) == len(set(inner.asked[0]))


async def test_a_later_question_does_not_wait_for_a_read_under_way() -> None:
    inner = Counting()
    store = CoalescingStore(inner)
    inner.go.clear()
    first = asyncio.create_task(store.read_users(["u1"]))
    await inner.began.get()
    second = asyncio.create_task(store.read_users(["u2"]))
    await inner.began.get()
    inner.go.set()
    assert [rows.ids for rows in await asyncio.gather(first, second)] == [("u1",), ("u2",)]


async def test_who_gives_up_leaves_the_read_to_the_others() -> None:
    inner = Counting()
    store = CoalescingStore(inner)
    inner.go.clear()
    leaving, staying = (asyncio.create_task(store.read_users([one])) for one in ("u1", "u2"))
    await inner.began.get()
    leaving.cancel()
    inner.go.set()
    assert (await staying).ids == ("u2",)
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_a_damaged_row_costs_nobody_else_theirs() -> None:
    store = CoalescingStore(Counting())
    asking = (["u1"], ["damaged"], ["u2", "u1"])
    found = await asyncio.gather(*map(store.read_users, asking), return_exceptions=True)
    assert isinstance(found[1], OnlineStoreError)
    assert [rows.ids for rows in (found[0], found[2]) if isinstance(rows, FeatureBatch)] == [
        ("u1",),
        ("u2", "u1"),
    ]


async def test_a_read_that_fails_fails_for_all_and_the_next_is_made_anew() -> None:
    inner = Counting()
    store = CoalescingStore(inner)
    inner.broken = True
    found = await asyncio.gather(*(store.read_users([one]) for one in ("u1", "u2")), return_exceptions=True)
    assert [type(one) for one in found] == [OnlineStoreError, OnlineStoreError]
    inner.broken = False
    assert (await store.read_users(["u1"])).found.all()
