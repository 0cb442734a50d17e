"""Features: the online read over Feast against a bare pipeline of HMGETs and Feast's own call.

One event loop reads with all arms in turn, from one embedded server. Does not belong here: what a read is
worth to a request (`layers`).
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
from redis import asyncio as redis

from features.definitions import ITEM_ONLINE, PACKED, USER_ONLINE, row_view, views
from features.feast_api import EntityKey, FeatureStore, RedisOnlineStore, Value
from features.feast_config import feature_store
from features.feast_store import FeastOnlineStore
from features.redis_address import WRITE_TIMEOUT_S, connection_string
from features.schema import ITEM_ID, USER_ID, FeatureSchema
from loadtests.bench import inputs
from loadtests.bench.inputs import World
from loadtests.bench.result import Cell, Goal, Section, Spread, Table
from loadtests.bench.rounds import Effort, in_turn
from training.bundle import ITEMS, SCHEMA

SIZES = (1, 100, 500)
"""Entities of one read."""

REACH = 2.0
"""Times as long as HMGETs of the same features, at most, where many entities are read."""

ARMS = OURS, PACKED_RAW, RAW, PLAIN = (
    "ours", "HMGET of the packed rows", "HMGET of the features", "get_online_features",
)  # fmt: skip

TEXT = """\
`ours` is `FeastOnlineStore`: from ids to columns, through Feast's online store, one packed value a row, every
row's checksum verified. The HMGET arms are redis-py's asynchronous client with hiredis on the same event loop
and server, keys and fields made beforehand, replies left as bytes: one reads what ours reads, the other the
same features as separate fields. `get_online_features` is Feast's asynchronous call for those, its answer not
yet turned into columns. No arm's connections have a timeout of their own.
"""

LIMIT = """\
the bare pipeline leaves packed rows packed: a string for every item of a user's history has yet to be made"""

Read = Callable[[Sequence[str]], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Kind:
    """Users or items: ids to ask for, and how each arm reads them."""

    name: str
    ids: tuple[str, ...]
    arms: Mapping[str, Read]

    def batches(self, size: int) -> list[list[str]]:
        """What one read after another asks for; ids come again where there are fewer than a read takes."""
        endless = cycle(self.ids)
        return [[next(endless) for _ in range(size)] for _ in range(-(-len(self.ids) // size))]


def run(effort: Effort, world: World) -> Section:
    with inputs.redis(world) as url, asyncio.Runner() as runner, _kinds(runner, url, world) as kinds:
        medians = {
            (kind.name, size): _in_turn(runner, kind, size, effort) for kind in kinds for size in SIZES
        }
    return section(medians)


def _in_turn(runner: asyncio.Runner, kind: Kind, size: int, effort: Effort) -> dict[str, Spread]:
    """Median ms of one read of `size` entities, arm by arm."""
    repeats = max(5, effort.repeats // (1 + size // 20))
    batches = kind.batches(size)

    def arm(read: Read) -> Callable[[], float]:
        return lambda: runner.run(median_ms(read, batches, repeats))

    found = in_turn({name: arm(read) for name, read in kind.arms.items()}, effort.rounds)
    return {name: Spread(tuple(values)) for name, values in found.items()}


async def median_ms(read: Read, batches: Sequence[Sequence[str]], repeats: int) -> float:
    """Of `repeats` reads, the batches one after the other, after one that does not count."""
    await read(batches[0])
    return statistics.median([await _ms(read, ids) for ids, _ in zip(cycle(batches), range(repeats))])


async def _ms(read: Read, ids: Sequence[str]) -> float:
    began = time.perf_counter()
    await read(ids)
    return (time.perf_counter() - began) * 1e3


def section(medians: Mapping[tuple[str, int], Mapping[str, Spread]]) -> Section:
    """(kind, entities) → arm → ms of a read."""
    compared = ((OURS, RAW), (OURS, PACKED_RAW), (OURS, PLAIN))
    columns = ("read", *ARMS, *(f"{one} ÷ {other}" for one, other in compared))
    rows: list[tuple[Cell, ...]] = []
    goals: list[Goal] = []
    for (kind, size), arms in medians.items():
        ratios = (arms[one].over(arms[other]) for one, other in compared)
        rows.append((f"{size} {kind}", *(arms[name] for name in ARMS), *ratios))
        if size > 1:
            goals += [
                Goal(f"our read ÷ {raw}, {size} {kind}", arms[OURS].over(arms[raw]), "at most", REACH, limit)
                for raw, limit in ((RAW, ""), (PACKED_RAW, LIMIT))
            ]
    return Section(
        "features", "Features", TEXT, (Table("One read, median ms", columns, tuple(rows)),), tuple(goals)
    )


@contextmanager
def _kinds(runner: asyncio.Runner, url: str, world: World) -> Iterator[tuple[Kind, Kind]]:
    """Users and items with their arms, on connections that the runner's loop closes afterwards."""
    schema = FeatureSchema.from_json((world.bundle / SCHEMA).read_text(encoding="utf-8"))
    item_ids = pq.read_table(world.bundle / ITEMS)["item_id"].to_pylist()
    ours = FeastOnlineStore(schema, url, read_timeout_s=WRITE_TIMEOUT_S)
    plain = feature_store(schema, world.work / "registry", connection_string(url, None))
    raw = redis.Redis.from_url(url)
    rng = np.random.default_rng(0)

    def kind(name: str, key: str, ids: Sequence[str], read: Read, service: str) -> Kind:
        packed, fields = _fields(plain, schema, key)
        asked = tuple(rng.permutation(np.array(ids, np.object_)).tolist())
        keys = dict(zip(asked, _keys(plain, key, asked), strict=True))
        arms: dict[str, Read] = {
            OURS: read,
            PACKED_RAW: _pipeline(raw, keys, packed),
            RAW: _pipeline(raw, keys, fields),
            PLAIN: _plain(plain, service, key),
        }
        return Kind(name, asked, arms)

    try:
        yield (
            kind("users", USER_ID, inputs.user_ids(world), ours.read_users, USER_ONLINE),
            kind("items", ITEM_ID, item_ids, ours.read_items, ITEM_ONLINE),
        )
    finally:
        runner.run(_closed(ours, plain, raw))


def _pipeline(client: redis.Redis, keys: Mapping[str, bytes], fields: list[Any]) -> Read:
    async def read(ids: Sequence[str]) -> object:
        async with client.pipeline(transaction=False) as pipeline:
            for one in ids:
                pipeline.hmget(cast(str, keys[one]), fields)  # redis-py takes bytes, its types do not
            return await pipeline.execute()

    return read


def _plain(store: FeatureStore, service: str, key: str) -> Read:
    features = store.get_feature_service(service)

    async def read(ids: Sequence[str]) -> object:
        return await store.get_online_features_async(features, {key: list(ids)})

    return read


def _keys(store: FeatureStore, key: str, ids: Sequence[str]) -> list[bytes]:
    """Where Feast keeps the rows in Redis."""
    entities = [EntityKey(join_keys=[key], entity_values=[Value(string_val=one)]) for one in ids]
    return RedisOnlineStore()._generate_redis_keys_for_entities(store.config, entities)


Fields = list[bytes | str]


def _fields(store: FeatureStore, schema: FeatureSchema, key: str) -> tuple[Fields, Fields]:
    """Fields of a row's hash, with the times of writing: of the packed row, and of its separate features."""
    online = RedisOnlineStore()
    _, packed = online._generate_hset_keys_for_features(row_view(key), [PACKED])
    separate = [store.get_feature_view(view) for view, (of, _) in views(schema).items() if of == key]
    return packed, [field for view in separate for field in online._generate_hset_keys_for_features(view)[1]]


async def _closed(ours: FeastOnlineStore, plain: FeatureStore, raw: redis.Redis) -> None:
    await ours.close()
    await raw.aclose()
    online = plain._get_provider().online_store
    client = online._client_async if isinstance(online, RedisOnlineStore) else None
    if client is not None:
        await client.aclose()
