"""Reading through Feast: the values, and what becomes of it when Redis is gone, stalled or holds other
rows."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from feast.infra.online_stores.helpers import _mmh3
from redis import Redis

from features import feast_store
from features import rows as rows_module
from features.definitions import PACKED, USER_ROW, row_view
from features.embedded import EmbeddedRedis
from features.feast_api import EntityKey, RedisOnlineStore, Value
from features.feast_config import configuration, feature_store
from features.feast_store import FeastOnlineStore
from features.marker import MARKER, stamped
from features.materialize import materialize
from features.packed import RowLayout
from features.redis_address import WRITE_TIMEOUT_S, RedisUrlError, connection_string
from features.schema import HISTORY_LENGTH, ITEM_ID, USER_ID
from features.store import OnlineStoreError
from tests.features.plain import plain_read
from tests.features.test_packed import assert_same_bits
from tests.features.worlds import START, World, events, films

WORLD = films()
SCHEMA = WORLD.schema


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A server of this test's own, with the world in it: it is going to be hurt."""
    with EmbeddedRedis(tmp_path / "redis") as running:
        store = feature_store(SCHEMA, tmp_path, connection_string(running.url, WRITE_TIMEOUT_S))
        materialize(store, SCHEMA, *WORLD.rows(SCHEMA), running.url, "test")
        yield running


async def test_a_stalled_redis_is_an_error_in_time_and_then_works_again(server: EmbeddedRedis) -> None:
    store = FeastOnlineStore(SCHEMA, server.url)
    patient = FeastOnlineStore(SCHEMA, server.url, read_timeout_s=10.0)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(OnlineStoreError):
            async with asyncio.timeout(5.0):  # far beyond the store's own deadline, which must come first
                await store.read_users(["u1"])
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert (await patient.read_users(["u1"])).columns["zip_code"].tolist() == ["00001"]
    await asyncio.gather(store.close(), patient.close())


async def test_a_read_given_up_does_not_answer_the_next(server: EmbeddedRedis) -> None:
    """The reply to a cancelled read must not be taken for that to another, on the same connection."""
    store = FeastOnlineStore(SCHEMA, server.url, read_timeout_s=10.0)
    await store.read_users(["u0"])
    os.kill(server.pid, signal.SIGSTOP)
    try:
        reads = [asyncio.create_task(store.read_users([f"u{i}"])) for i in range(8)]
        await asyncio.wait(reads, timeout=0.05)
        for read in reads:
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)
        assert all(read.cancelled() for read in reads)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    for i in range(12):
        assert (await store.read_users([f"u{i}"])).columns["zip_code"].tolist() == [f"{i:05}"]
    await store.close()


async def test_a_killed_redis_is_an_error_with_its_address_and_without_its_password(
    server: EmbeddedRedis,
) -> None:
    store = FeastOnlineStore(SCHEMA, server.url, read_timeout_s=10.0)
    await store.read_users(["u1"])
    os.kill(server.pid, signal.SIGKILL)
    server._process.wait()
    for _ in range(2):
        with pytest.raises(OnlineStoreError, match=r"127\.0\.0\.1") as caught:
            await store.read_users(["u1"])
        assert server._password not in str(caught.value)
    await store.close()


async def test_a_wrong_password_is_an_error(server: EmbeddedRedis) -> None:
    store = FeastOnlineStore(SCHEMA, server.url.replace(server._password, "wrong"), read_timeout_s=10.0)
    with pytest.raises(OnlineStoreError):
        await store.read_users(["u1"])
    await store.close()


async def test_more_readers_than_connections_all_get_their_own_rows(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feast_store, "CONNECTIONS", 2)
    store = FeastOnlineStore(SCHEMA, server.url, read_timeout_s=30.0)
    asked = [f"u{i % 12}" for i in range(40)]
    batches = await asyncio.gather(*(store.read_users([user]) for user in asked))
    assert [batch.columns["zip_code"][0] for batch in batches] == [f"{int(user[1:]):05}" for user in asked]
    await store.close()


def odd() -> World:
    """Ids and words that need care; nulls everywhere; a user and an item without events."""
    ids = ["ü☃", "a,b=c:d*", "nul\0in", " ", "0", "silent"]
    return World(
        events([(ids[i % 5], ids[(i * i) % 5], 1.0 + i, START + 60 * i) for i in range(12)]),
        pa.table(
            {
                "item_id": ids,
                "title": ["é", None, "\0\x01", "", "b", "c"],
                "genres": pa.array([["ü"], None, [], ["a", "\0"], ["a"], ["ü", "a"]], pa.list_(pa.string())),
                "year": pa.array([None, 1, 2, 3, 4, None], pa.int16()),
                "released": pa.array([0, None, 1, -1, 2, 3], pa.timestamp("s")),
            }
        ),
        pa.table(
            {"user_id": ids, "age": [None, 1.5, -0.0, 3.0, None, 9.0], "job": ["ü", "ü", None, "", "x", "x"]}
        ),
    )


@pytest.mark.parametrize(
    ("world", "length"), [(films(), HISTORY_LENGTH), (odd(), 1)], ids=["films", "odd, and mostly older"]
)
async def test_packed_rows_say_what_the_separate_features_say(
    world: World, length: int, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit, for every user and item, those that are not there included."""
    monkeypatch.setattr(rows_module, "HISTORY_LENGTH", length)
    schema = world.schema
    directory = tmp_path / "reference"
    materialize(
        feature_store(schema, tmp_path, connection_string(redis_url, WRITE_TIMEOUT_S)),
        schema,
        *world.rows(schema),
        redis_url,
        "v",
    )
    store = FeastOnlineStore(schema, redis_url, read_timeout_s=10.0)
    for key, table, read in (
        (USER_ID, world.users, store.read_users),
        (ITEM_ID, world.items, store.read_items),
    ):
        ids = [*table[key].to_pylist(), "nobody", "ü"]
        batch = await read(ids)
        found, columns = plain_read(schema, redis_url, key, ids, directory)
        assert batch.found.tolist() == found.tolist() == [True] * (len(ids) - 2) + [False] * 2
        assert list(batch.columns) == list(columns)
        for name, values in columns.items():
            assert_same_bits(batch.columns[name], values)
        assert len(set(batch.version.tolist())) == len(ids) - 1
    await store.close()


def altered(url: str, user: str, change: Callable[[bytes], bytes]) -> None:
    """Changes a user's packed row in Redis, past Feast's check of times."""
    entity = EntityKey(join_keys=[USER_ID], entity_values=[Value(string_val=user)])
    config = configuration(connection_string(url, WRITE_TIMEOUT_S))
    online = RedisOnlineStore()
    view = row_view(USER_ID)
    ((when, features),) = online.online_read(config, view, [entity], [PACKED])
    assert when is not None
    assert features is not None
    value = Value(bytes_val=change(features[PACKED].bytes_val))
    online.online_write_batch(
        config, view, [(entity, {PACKED: value}, when + timedelta(1), None)], progress=None
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row[:-1],
        lambda row: row[:10],
        lambda row: b"",
        lambda row: row[:-1] + bytes([row[-1] ^ 1]),
        lambda row: RowLayout(USER_ID, SCHEMA.user[::-1]).pack(WORLD.rows(SCHEMA)[0].columns)[0],
    ],
    ids=["cut", "cut in the head", "empty", "damaged", "of another layout"],
)
async def test_a_row_that_is_not_as_written_is_an_error(
    server: EmbeddedRedis, change: Callable[[bytes], bytes]
) -> None:
    store = FeastOnlineStore(SCHEMA, server.url, read_timeout_s=10.0)
    altered(server.url, "u1", change)
    with pytest.raises(OnlineStoreError, match="marquee features"):
        await store.read_users(["u0", "u1"])
    assert (await store.read_users(["u0"])).found.all()
    await store.close()


async def test_rows_of_the_previous_form_are_an_error_not_unknown_users(server: EmbeddedRedis) -> None:
    """Before there were packed rows: the marker held the bare version, and rows had no packed field."""
    with Redis.from_url(server.url) as client:
        for key in client.scan_iter(b"*user_id*"):
            client.hdel(key, _mmh3(f"{USER_ROW}:{PACKED}"), f"_ts:{USER_ROW}")
        client.set(MARKER, "v")
    store = FeastOnlineStore(SCHEMA, server.url, read_timeout_s=10.0)
    with pytest.raises(OnlineStoreError, match="marquee features"):
        await store.read_users(["u1"])
    with Redis.from_url(server.url) as client:
        client.set(MARKER, stamped("v"))
    assert (await store.read_users(["u1"])).found.tolist() == [False]
    await store.close()


def test_a_url_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(RedisUrlError):
        FeastOnlineStore(SCHEMA, "localhost:6379")
