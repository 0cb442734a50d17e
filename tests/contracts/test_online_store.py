"""What every online store must do, whatever it is made of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from features.cached import CachingStore
from features.embedded import EmbeddedRedis
from features.feast_config import feature_store
from features.feast_store import FeastOnlineStore
from features.materialize import materialize
from features.memory_store import MemoryOnlineStore
from features.redis_address import WRITE_TIMEOUT_S, connection_string
from features.schema import FeatureSchema
from features.store import FeatureBatch, OnlineStore, OnlineStoreError
from tests.features.worlds import START, films

WORLD = films()
SCHEMA: FeatureSchema = WORLD.schema


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("store")
    with EmbeddedRedis(directory / "redis") as server:
        store = feature_store(SCHEMA, directory, connection_string(server.url, WRITE_TIMEOUT_S))
        materialize(store, SCHEMA, *WORLD.rows(SCHEMA), server.url, "test")
        yield server.url


def memory(url: str) -> OnlineStore:
    return MemoryOnlineStore.from_events(SCHEMA, WORLD.interactions, WORLD.items, WORLD.users)


def feast(url: str) -> OnlineStore:
    # The contract is about values, not about time: a busy machine must not fail it.
    return FeastOnlineStore(SCHEMA, url, read_timeout_s=10.0)


def caching(url: str) -> OnlineStore:
    return CachingStore(feast(url), url, 100)


@pytest.fixture(params=[memory, feast, caching])
async def store(request: pytest.FixtureRequest, url: str) -> AsyncIterator[OnlineStore]:
    made: OnlineStore = request.param(url)
    yield made
    await made.close()


def assert_equal(one: FeatureBatch, other: FeatureBatch) -> None:
    assert one.ids == other.ids
    np.testing.assert_array_equal(one.found, other.found)
    np.testing.assert_array_equal(one.written_at, other.written_at)
    np.testing.assert_array_equal(one.version, other.version)
    assert one.version.dtype == other.version.dtype == np.uint64
    assert list(one.columns) == list(other.columns)
    for name, values in one.columns.items():
        others = other.columns[name]
        assert values.dtype == others.dtype, name
        for cell, their_cell in zip(values, others, strict=True):
            np.testing.assert_array_equal(cell, their_cell, name)
            assert np.asarray(cell).dtype == np.asarray(their_cell).dtype, name


async def test_rows_come_in_the_order_asked_for(store: OnlineStore) -> None:
    batch = await store.read_users(["u3", "u0", "u7"])
    assert batch.ids == ("u3", "u0", "u7")
    assert batch.found.all()
    assert batch.columns["zip_code"].tolist() == ["00003", "00000", "00007"]
    items = await store.read_items(["i4", "i2"])
    assert items.columns["title"].tolist() == ["Film 4, the", "Film 2, the"]


async def test_a_kept_row_is_the_row_that_is_read(store: OnlineStore) -> None:
    read = await store.read_users(["u1", "nobody"])
    for at, user_id in enumerate(read.ids):
        if (kept := store.kept(user_id)) is not None:
            assert_equal(kept, read.take([at]))


async def test_the_columns_are_the_schemas(store: OnlineStore) -> None:
    users, items = await store.read_users(["u1"]), await store.read_items(["i1"])
    assert list(users.columns) == [feature.name for feature in SCHEMA.user]
    assert list(items.columns) == [feature.name for feature in SCHEMA.item]


async def test_the_unknown_have_defaults_and_say_so(store: OnlineStore) -> None:
    batch = await store.read_users(["u1", "nobody"])
    assert batch.found.tolist() == [True, False]
    assert np.isnan(batch.written_at[1])
    assert np.isnan(batch.age_s(START)[1])
    defaults = {feature.name: feature.default for feature in SCHEMA.user}
    assert batch.columns["age"][1] == np.float32(defaults["age"])
    assert batch.columns["user_value_mean"][1] == np.float32(defaults["user_value_mean"])
    assert batch.columns["occupation"][1] == ""
    assert len(batch.columns["history_items"][1]) == 0


async def test_one_without_events_is_known_but_has_no_age(store: OnlineStore) -> None:
    batch = await store.read_users(["silent"])
    assert batch.found.tolist() == [True]
    assert np.isnan(batch.written_at[0])


async def test_age_counts_from_the_newest_event(store: OnlineStore) -> None:
    batch = await store.read_users(["u2"])
    newest = batch.columns["history_times"][0][-1]
    assert batch.written_at[0] == newest
    assert batch.age_s(newest + 60).tolist() == [60]


async def test_the_same_id_twice_gives_the_same_row_twice(store: OnlineStore) -> None:
    twice, once = await store.read_users(["u5", "u1", "u5"]), await store.read_users(["u5"])
    assert twice.columns["age"][0] == twice.columns["age"][2] == once.columns["age"][0]
    assert twice.columns["history_items"][2].tolist() == once.columns["history_items"][0].tolist()


async def test_a_row_has_one_version_and_another_row_another(store: OnlineStore) -> None:
    batch = await store.read_users(["u5", "nobody", "u1", "u5", "silent"])
    again = await store.read_users(["u1"])
    five, nobody, one, five_again, silent = batch.version.tolist()
    assert nobody == 0
    assert five == five_again
    assert again.version.tolist() == [one]
    assert len({five, one, silent, 0}) == 4


async def test_nothing_asked_nothing_read(store: OnlineStore) -> None:
    batch = await store.read_users([])
    assert batch.ids == ()
    assert {len(values) for values in batch.columns.values()} == {0}
    assert len(batch.found) == len(batch.written_at) == len(batch.version) == 0


@pytest.mark.parametrize("user_id", ["", " ", "ü☃", "a,b=c:d*", "0", "x" * 500])
async def test_any_string_may_be_an_id(store: OnlineStore, user_id: str) -> None:
    assert (await store.read_users([user_id])).found.tolist() == [False]


async def test_a_closed_store_says_so(store: OnlineStore) -> None:
    await store.read_users(["u1"])
    await store.close()
    await store.close()
    with pytest.raises(OnlineStoreError, match="closed"):
        await store.read_users(["u1"])


async def test_all_stores_give_equal_values(url: str, tmp_path: Path) -> None:
    one, other = memory(url), feast(url)
    users = [*WORLD.users["user_id"].to_pylist(), "nobody"]
    items = [*WORLD.items["item_id"].to_pylist(), "nothing"]
    assert_equal(await one.read_users(users), await other.read_users(users))
    assert_equal(await one.read_items(items), await other.read_items(items))
    await other.close()
