"""Redis gone, stalled and back: what reading through Feast does then."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from features import feast_store
from features.embedded import EmbeddedRedis
from features.feast_config import feature_store
from features.feast_store import FeastOnlineStore
from features.materialize import materialize
from features.redis_address import WRITE_TIMEOUT_S, RedisUrlError, connection_string
from features.store import OnlineStoreError
from tests.features.worlds import films

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


def test_a_url_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(RedisUrlError):
        FeastOnlineStore(SCHEMA, "localhost:6379")
