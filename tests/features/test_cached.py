"""A kept row is the row in Redis: whoever writes it, and whenever, in the middle of a read too."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from features import invalidation
from features.cached import CachingStore, online_store
from features.embedded import EmbeddedRedis
from features.feast_config import feature_store
from features.feast_redis import UserKeys
from features.feast_store import FeastOnlineStore
from features.invalidation import listen
from features.materialize import materialize
from features.memory_store import MemoryOnlineStore
from features.redis_address import WRITE_TIMEOUT_S, connection_string
from features.store import FeatureBatch, OnlineStoreError
from tests.contracts.test_online_store import assert_equal
from tests.features.worlds import films

WORLD = films()
SCHEMA = WORLD.schema
MEMORY = MemoryOnlineStore.from_events(SCHEMA, WORLD.interactions, WORLD.items, WORLD.users)
ROWS = 4


class Counting:
    """Reads from memory, when it is let go, and counts."""

    def __init__(self) -> None:
        self.reads = self.rows = 0
        self.began: asyncio.Queue[None] = asyncio.Queue()
        self.go = asyncio.Event()
        self.go.set()

    def kept(self, user_id: str) -> FeatureBatch | None:
        return None

    async def read_users(self, user_ids: Sequence[str]) -> FeatureBatch:
        self.reads += 1
        self.rows += len(user_ids)
        self.began.put_nowait(None)
        await self.go.wait()
        return await MEMORY.read_users(user_ids)

    async def read_items(self, item_ids: Sequence[str]) -> FeatureBatch:
        return await MEMORY.read_items(item_ids)

    async def close(self) -> None:
        pass


def key_of(user_id: str) -> bytes:
    """Feast's, as `test_feast_redis` holds them equal."""
    one = user_id.encode()
    return UserKeys().prefix + b"\2\0\0\0" + len(one).to_bytes(4, "little") + one + b"marquee"


class Kept:
    """A store over a counting one, told of writes by the test alone."""

    def __init__(self) -> None:
        self.inner = Counting()
        self.store = CachingStore(self.inner, "redis://nowhere", ROWS)
        self.store._listening = asyncio.create_task(asyncio.sleep(0))  # nobody listens
        self.store.on_tracked(True)

    async def reads(self, user_id: str) -> int:
        """How often it was read for one more request."""
        before = self.inner.reads
        assert_equal(await self.store.read_users([user_id]), await MEMORY.read_users([user_id]))
        return self.inner.reads - before


async def test_who_asks_again_is_not_read_again() -> None:
    kept = Kept()
    assert [await kept.reads("u1") for _ in range(3)] == [1, 0, 0]
    assert [await kept.reads("nobody") for _ in range(2)] == [1, 0]


several = st.lists(st.sampled_from(["u0", "u1", "u2", "nobody"]), max_size=4)


@settings(max_examples=25)
@given(st.lists(several, max_size=4))
async def test_of_several_the_missing_are_read_in_one_read(batches: list[list[str]]) -> None:
    kept, seen = Kept(), set[str]()
    for ids in batches:
        missing, before = set(ids) - seen, (kept.inner.reads, kept.inner.rows)
        assert_equal(await kept.store.read_users(ids), await MEMORY.read_users(ids))
        read = kept.inner.reads - before[0], kept.inner.rows - before[1]
        assert read == (1 if missing or not ids else 0, len(missing))
        seen |= missing


async def test_what_was_written_is_read_and_nothing_else() -> None:
    kept = Kept()
    await asyncio.gather(kept.reads("u1"), kept.reads("u2"))
    kept.store.on_written([key_of("u1"), key_of("somebody else"), UserKeys().prefix, b""])
    assert (await kept.reads("u2"), await kept.reads("u1"), await kept.reads("u1")) == (0, 1, 0)
    kept.store.on_written(None)
    assert (await kept.reads("u2"), await kept.reads("u1")) == (1, 1)


async def test_without_the_promise_every_row_is_read() -> None:
    kept = Kept()
    await kept.reads("u1")
    kept.store.on_tracked(False)
    assert [await kept.reads("u1") for _ in range(2)] == [1, 1]
    kept.store.on_tracked(True)
    assert [await kept.reads("u1") for _ in range(2)] == [1, 0]


async def test_the_least_recently_used_go_first() -> None:
    kept = Kept()
    for user in ("u0", "u1", "u2", "u3", "u0", "u4"):
        await kept.reads(user)
    assert [await kept.reads(user) for user in ("u0", "u4", "u1")] == [0, 0, 1]


@pytest.mark.parametrize(
    "told",
    [
        lambda store: store.on_written([key_of("u1")]),
        lambda store: store.on_written(None),
        lambda store: store.on_tracked(False),
        lambda store: (store.on_tracked(False), store.on_tracked(True)),
    ],
    ids=["written", "anything written", "promise lost", "lost and given again"],
)
async def test_a_row_that_was_written_while_it_was_read_is_not_kept(
    told: Callable[[CachingStore], object],
) -> None:
    """The reply may have left Redis before the write."""
    kept = Kept()
    kept.inner.go.clear()
    reading = asyncio.create_task(kept.store.read_users(["u1"]))
    await kept.inner.began.get()
    told(kept.store)
    kept.inner.go.set()
    await reading
    assert await kept.reads("u1") == 1


async def test_of_two_reads_the_one_begun_last_is_kept() -> None:
    kept = Kept()
    kept.inner.go.clear()
    first = asyncio.create_task(kept.store.read_users(["u1"]))
    await kept.inner.began.get()
    kept.store.on_written([key_of("u1")])
    second = asyncio.create_task(kept.store.read_users(["u1"]))
    await kept.inner.began.get()
    kept.inner.go.set()
    old, new = await asyncio.gather(first, second)
    assert kept.store.kept("u1") is new is not old


async def test_a_read_that_failed_or_was_given_up_is_made_anew() -> None:
    kept = Kept()
    kept.inner.go.clear()
    reading = asyncio.create_task(kept.store.read_users(["u1"]))
    await kept.inner.began.get()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    kept.inner.go.set()
    assert [await kept.reads("u1") for _ in range(2)] == [1, 0]


async def test_none_are_kept_where_none_are_wanted() -> None:
    assert isinstance(online_store(SCHEMA, "redis://127.0.0.1", 0), FeastOnlineStore)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_key_says_whose_it_is(user_id: str) -> None:
    assert UserKeys().user_id(key_of(user_id)) == user_id


# On a real server.


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path / "redis") as running:
        write(running.url, tmp_path)
        yield running


def write(url: str, directory: Path) -> None:
    store = feature_store(SCHEMA, directory, connection_string(url, WRITE_TIMEOUT_S))
    materialize(store, SCHEMA, *WORLD.rows(SCHEMA), url, "test")


@pytest.fixture
async def store(server: EmbeddedRedis) -> AsyncIterator[CachingStore]:
    feast = FeastOnlineStore(SCHEMA, server.url, read_timeout_s=10.0)
    made = CachingStore(feast, server.url, 100)
    await made.read_users(["u1"])
    await until(lambda: made._tracked)
    yield made
    await made.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30.0):
        while not holds():  # noqa: ASYNC110 - it is Redis that changes it
            await asyncio.sleep(0.01)


async def gone(store: CachingStore, user_id: str) -> None:
    await until(lambda: user_id not in store._rows)


async def test_an_id_is_in_memory_once_however_many_histories_hold_it(store: CachingStore) -> None:
    rows = [await store.read_users([user_id]) for user_id in WORLD.users["user_id"].to_pylist()]
    objects: dict[str, set[int]] = {}
    for one in (one for row in rows for one in row.columns["history_items"][0]):
        objects.setdefault(one, set()).add(id(one))
    assert sum(len(row.columns["history_items"][0]) for row in rows) > len(objects)
    assert {len(same) for same in objects.values()} == {1}


Write = Callable[[Redis, bytes], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda client, key: client.hset(key, "any field", "1"),
        lambda client, key: client.delete(key),
        lambda client, key: client.pexpire(key, 1),
        lambda client, _: client.flushall(),
    ],
    ids=["field written", "user deleted", "row expired", "everything flushed"],
)
async def test_whatever_writes_a_row_it_is_heard_of(
    server: EmbeddedRedis, store: CachingStore, change: Write
) -> None:
    row = await store.read_users(["u1"])
    assert await store.read_users(["u1"]) is row
    with Redis.from_url(server.url) as client:
        change(client, key_of("u1"))
    await gone(store, "u1")


async def test_an_event_changes_the_next_answer(
    server: EmbeddedRedis, store: CachingStore, tmp_path: Path
) -> None:
    """What the cache of answers relies on: rows written anew are seen, and their versions with them."""
    await store.read_users(["u1"])
    with Redis.from_url(server.url) as client:
        client.delete(key_of("u1"))
    await gone(store, "u1")
    assert not (await store.read_users(["u1"])).found[0]
    write(server.url, tmp_path)
    await gone(store, "u1")
    assert_equal(await store.read_users(["u1"]), await MEMORY.read_users(["u1"]))


async def test_of_other_keys_nothing_is_heard(server: EmbeddedRedis) -> None:
    class Noted:
        def __init__(self) -> None:
            self.keys: list[bytes] = []
            self.ready = asyncio.Event()

        def on_written(self, keys: Sequence[bytes] | None) -> None:
            self.keys += keys or []

        def on_tracked(self, yes: bool) -> None:
            self.ready.set()

    noted = Noted()
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(listen(server.url, UserKeys().prefix, noted))
        await noted.ready.wait()
        with Redis.from_url(server.url) as client:
            client.set("other", "1")
            client.hset(key_of("u1").replace(b"user_id", b"item_id"), "field", "1")
            client.hset(key_of("u2"), "field", "1")
        await until(lambda: len(noted.keys) > 0)
        listening.cancel()
    assert noted.keys == [key_of("u2")]


async def test_it_ends_whenever_it_is_told_to(server: EmbeddedRedis) -> None:
    """In the middle of connecting, too, where Python 3.11 has lost cancellations."""

    class Deaf:
        def on_written(self, keys: Sequence[bytes] | None) -> None: ...

        def on_tracked(self, yes: bool) -> None: ...

    for turns in range(60):
        listening = asyncio.create_task(listen(server.url, b"", Deaf()))
        for _ in range(turns):
            await asyncio.sleep(0)
        listening.cancel()
        _, left = await asyncio.wait([listening], timeout=30.0)
        assert not left


async def killed(server: EmbeddedRedis) -> None:
    with Redis.from_url(server.url) as client:
        for each in client.client_list():
            if "t" in each["flags"]:  # tracking
                client.client_kill(each["addr"])


async def stopped(server: EmbeddedRedis) -> None:
    os.kill(server.pid, signal.SIGSTOP)


@pytest.mark.parametrize("lose", [killed, stopped])
async def test_a_lost_connection_is_noticed_and_made_anew(
    server: EmbeddedRedis,
    store: CachingStore,
    lose: Callable[[EmbeddedRedis], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(invalidation, "PERIOD_S", 0.1)
    monkeypatch.setattr(invalidation, "AGAIN_S", 0.1)
    await store.read_users(["u1"])
    try:
        await lose(server)
        await until(lambda: not store._tracked)
        assert len(store._rows) == 0
    finally:
        os.kill(server.pid, signal.SIGCONT)
    await until(lambda: store._tracked)
    assert "every row is read" in caplog.text
    assert server._password not in caplog.text
    row = await store.read_users(["u1"])
    assert await store.read_users(["u1"]) is row


async def test_a_pause_of_this_process_loses_nothing(
    server: EmbeddedRedis, store: CachingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds in which the event loop does not turn: what Redis said meanwhile is read after it."""
    monkeypatch.setattr(invalidation, "PERIOD_S", 0.2)
    lost: list[bool] = []
    told = store.on_tracked
    store.on_tracked = lambda yes: (lost.append(yes), told(yes))[1]  # type: ignore[method-assign]  # a spy
    await store.read_users(["u1"])
    await asyncio.sleep(0.3)
    with Redis.from_url(server.url) as client:
        client.hset(key_of("u2"), "field", "1")
        for _ in range(3):
            time.sleep(0.5)  # noqa: ASYNC251 - the loop is to stand still
            await asyncio.sleep(0.05)
    assert lost == []
    assert "u1" in store._rows


async def test_a_server_that_does_not_promise_is_read_every_time(
    server: EmbeddedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    with Redis.from_url(server.url) as client:
        client.acl_setuser(
            "reader", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", "-client|tracking"]
        )
    url = server.url.replace("redis://:", "redis://reader:").replace(server._password, "secret")
    store = CachingStore(FeastOnlineStore(SCHEMA, url, read_timeout_s=10.0), url, 100)
    await store.read_users(["u1"])
    await until(lambda: "every row is read" in caplog.text)
    one, other = await store.read_users(["u1"]), await store.read_users(["u1"])
    assert one is not other
    assert_equal(one, other)
    await store.close()


async def test_a_closed_store_leaves_no_task(server: EmbeddedRedis) -> None:
    store = online_store(SCHEMA, server.url, 10)
    await store.read_users(["u1"])
    await store.close()
    with pytest.raises(OnlineStoreError, match="closed"):
        await store.read_users(["u1"])
    await store.close()
