"""Offline and online hold the same values; writing twice changes nothing; what is old goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from redis import Redis

from features.embedded import EmbeddedRedis
from features.feast_config import feature_store
from features.feast_store import FeastOnlineStore
from features.known_user import known_user
from features.marker import materialized
from features.materialize import materialize
from features.offline import training_set, write_logs
from features.redis_address import WRITE_TIMEOUT_S, connection_string
from features.store import OnlineStoreError
from features.transforms import encode, items_at
from tests.features.worlds import DAY, START, World, films, world_of

END = START + 365 * DAY


def put(world: World, directory: Path, url: str, version: str = "v1") -> None:
    schema = world.schema
    store = feature_store(schema, directory, connection_string(url, WRITE_TIMEOUT_S))
    materialize(store, schema, *world.rows(schema), url, version)


async def test_every_feature_is_equal_offline_and_online(tmp_path: Path, redis_url: str) -> None:
    """Straight from the tables, from the log through Feast's point-in-time join, and from Redis through
    Feast: one value, to the last bit, for every feature of every user and item, and every model input."""
    world = films()
    schema = world.schema
    users, items = world.rows(schema)
    put(world, tmp_path, redis_url)
    write_logs(schema, world.lines, users, items, tmp_path)
    count = max(len(users.ids), len(items.ids))
    asked_users = [users.ids[i % len(users.ids)] for i in range(count)]
    asked_items = [items.ids[i % len(items.ids)] for i in range(count)]
    at = np.full(count, END * 1_000_000)
    historical = training_set(feature_store(schema, tmp_path), schema, asked_users, asked_items, at)
    store = FeastOnlineStore(schema, redis_url, read_timeout_s=10.0)
    online_users = (await store.read_users(asked_users)).columns
    online_items = items_at((await store.read_items(asked_items)).columns, END)
    await store.close()

    where = np.arange(count)
    tables_users = {name: values[where % len(users.ids)] for name, values in users.columns.items()}
    tables_items = items_at({n: v[where % len(items.ids)] for n, v in items.columns.items()}, END)
    compared = set()
    for online, others in (
        (online_users, (tables_users, historical.user)),
        (online_items, (tables_items, historical.item)),
    ):
        for name, values in online.items():
            for other in others:
                if name in other:  # histories are not in the log
                    for cell, their_cell in zip(values, other[name], strict=True):
                        np.testing.assert_array_equal(cell, their_cell, name)
            compared.add(name)
    assert compared == {feature.name for feature in (*schema.user, *schema.item)}
    np.testing.assert_array_equal(encode(schema.user, online_users), encode(schema.user, historical.user))
    np.testing.assert_array_equal(encode(schema.item, online_items), encode(schema.item, historical.item))


def test_writing_twice_changes_nothing(tmp_path: Path, redis_url: str) -> None:
    def contents() -> dict[bytes, object]:
        with Redis.from_url(redis_url) as client:
            keys = set(client.scan_iter())
            marker = keys & {b"marquee:materialized", b"marquee:known_user"}
            return {**{k: client.get(k) for k in marker}, **{k: client.hgetall(k) for k in keys - marker}}

    put(films(), tmp_path, redis_url)
    first = contents()
    put(films(), tmp_path, redis_url)
    assert contents() == first
    assert len(first) == 13 + 10 + 2


async def test_rows_of_another_data_set_are_replaced_and_others_left(tmp_path: Path, redis_url: str) -> None:
    with Redis.from_url(redis_url) as client:
        client.set("somebody-elses", "marquee")
    put(films(), tmp_path / "old", redis_url)
    earlier = world_of([("u0", "i0", 2.0, START - 900 * DAY)])
    put(earlier, tmp_path / "new", redis_url, "v2")
    store = FeastOnlineStore(earlier.schema, redis_url, read_timeout_s=10.0)
    batch = await store.read_users(["u0", "u5", "silent"])
    await store.close()
    assert batch.found.tolist() == [True, False, False]
    assert batch.columns["user_events"].tolist() == [1, 0, 0]
    assert materialized(redis_url) == "v2"
    with Redis.from_url(redis_url) as client:
        assert client.get("somebody-elses") == b"marquee"


def test_rows_of_another_form_count_as_none(tmp_path: Path, redis_url: str) -> None:
    put(films(), tmp_path, redis_url)
    with Redis.from_url(redis_url) as client:
        for other in ("v1", "packed-0:v1", "packed-10:v1"):
            client.set("marquee:materialized", other)
            assert materialized(redis_url) is None


def test_stopped_half_way_there_is_no_marker(tmp_path: Path, redis_url: str) -> None:
    world = films()
    schema = world.schema
    put(world, tmp_path, redis_url)
    store = feature_store(schema, tmp_path, connection_string(redis_url, WRITE_TIMEOUT_S))

    def stop(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        materialize(store, schema, *world.rows(schema), redis_url, "v2", stop)
    assert materialized(redis_url) is None


def test_progress_reaches_every_row(tmp_path: Path, redis_url: str) -> None:
    world = films()
    schema = world.schema
    steps: dict[str, tuple[int, int]] = {}
    store = feature_store(schema, tmp_path, connection_string(redis_url, WRITE_TIMEOUT_S))
    counts = materialize(
        store,
        schema,
        *world.rows(schema),
        redis_url,
        "v",
        lambda what, done, total: steps.update({what: (done, total)}),
    )
    assert (counts.users, counts.items) == (13, 10)
    assert steps["user_history"] == (13, 13)
    assert steps["item_profile"] == steps["item_row"] == (10, 10)


def test_no_redis_is_one_clear_error(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        gone = server.url
    with pytest.raises(OnlineStoreError, match="REDIS_URL"):
        put(films(), tmp_path, gone)
    with pytest.raises(OnlineStoreError, match="REDIS_URL"):
        materialized(gone)


def test_the_user_with_the_longest_history_is_known_and_gone_with_the_rows(
    tmp_path: Path, redis_url: str
) -> None:
    put(films(), tmp_path / "one", redis_url)
    lengths = films().lines.user.sizes
    assert known_user(redis_url) == films().lines.user_ids[int(lengths.argmax())]
    put(world_of([("u2", "i0", 2.0, START), ("u2", "i1", 2.0, START)]), tmp_path / "two", redis_url, "v2")
    assert known_user(redis_url) == "u2"
    with Redis.from_url(redis_url) as client:
        client.delete("marquee:materialized")
    with pytest.raises(OnlineStoreError, match="no features yet"):
        known_user(redis_url)
