"""Features: the online read over Feast against a bare pipeline of HMGETs for the same rows, and whether reads
grow slower with time.

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
from loadtests.bench.result import Goal, Plot, Section, Spread, Table
from loadtests.bench.rounds import Effort, in_turn
from loadtests.bench.world import World
from training.bundle import ITEMS, SCHEMA

SIZES = (1, 100, 500)
"""Entities of one read."""

REACH, DRIFT_REACH = 2.0, 1.1

DRIFT_S, QUICK_DRIFT_S = 600.0, 5.0
"""Seconds over which reads are watched: ten periods of a Feast registry that is refreshed every minute."""

PARTS = 10
"""Parts of that time, of which the first and the last are compared."""

RATE = 20.0
"""Reads a second of each arm meanwhile: enough for a steady median of a minute, a small load."""

OURS, RAW, RAW_FIELDS, PLAIN = (
    "ours",
    "HMGET of the packed rows",
    "HMGET of the features",
    "get_online_features",
)

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
        seconds = QUICK_DRIFT_S if effort.quick else DRIFT_S
        lasting = runner.run(watch(kinds[0], seconds))
    return section(medians, lasting, seconds)


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


async def watch(kind: Kind, seconds: float) -> dict[str, list[list[float]]]:
    """Single reads at `RATE` for so long, ours and the bare one by turns: arm → part → ms."""
    parts: dict[str, list[list[float]]] = {name: [[] for _ in range(PARTS)] for name in (OURS, RAW)}
    batches, count = kind.batches(1), max(PARTS, int(seconds * RATE))
    began = time.perf_counter()
    for turn in range(count):
        await asyncio.sleep(max(0.0, began + turn * seconds / count - time.perf_counter()))
        ids, names = batches[turn % len(batches)], (OURS, RAW) if turn % 2 else (RAW, OURS)
        for name in names:  # the first after a pause pays for it
            parts[name][turn * PARTS // count].append(await _ms(kind.arms[name], ids))
    return parts


async def _ms(read: Read, ids: Sequence[str]) -> float:
    began = time.perf_counter()
    await read(ids)
    return (time.perf_counter() - began) * 1e3


def section(
    medians: Mapping[tuple[str, int], Mapping[str, Spread]],
    lasting: Mapping[str, Sequence[Sequence[float]]],
    seconds: float,
) -> Section:
    table = Table(
        "One read, median ms",
        ("read", *(name for name in (OURS, RAW, RAW_FIELDS, PLAIN))),
        tuple(
            (f"{size} {kind}", *(arms[name] for name in (OURS, RAW, RAW_FIELDS, PLAIN)))
            for (kind, size), arms in medians.items()
        ),
    )
    compared = ((OURS, RAW_FIELDS), (PLAIN, RAW_FIELDS), (OURS, RAW), (OURS, PLAIN))
    ratios = Table(
        "The same as ratios",
        ("read", *(f"{one} ÷ {other}" for one, other in compared)),
        tuple(
            (f"{size} {kind}", *(arms[one].over(arms[other]) for one, other in compared))
            for (kind, size), arms in medians.items()
        ),
    )
    goals = tuple(
        Goal(f"our read ÷ {other}, {size} {kind}", arms[OURS].over(arms[other]), "at most", REACH, limit)
        for other, limit in ((RAW_FIELDS, ""), (RAW, LIMIT))
        for (kind, size), arms in medians.items()
        if size > 1
    )
    levels = {name: [statistics.median(part) for part in parts] for name, parts in lasting.items()}
    minutes = [(part + 0.5) * seconds / PARTS / 60 for part in range(PARTS)]
    drift = Table(
        f"Single reads over {seconds:g} s at {RATE:g} a second, median ms",
        ("arm", "first tenth", "last tenth", "last ÷ first", "slope, % of the median a minute"),
        tuple(
            (name, level[0], level[-1], level[-1] / level[0], slope_percent(minutes, level))
            for name, level in levels.items()
        ),
    )
    change = (levels[OURS][-1] / levels[OURS][0]) / (levels[RAW][-1] / levels[RAW][0])
    measure = "single read, last tenth ÷ first tenth, over the same of the raw pipeline"
    lines = {name: list(zip(minutes, level, strict=True)) for name, level in levels.items()}
    return Section(
        name="features",
        title="Features",
        text=TEXT,
        tables=(table, ratios, drift),
        goals=(*goals, Goal(measure, Spread((change,)), "at most", DRIFT_REACH)),
        plots=(Plot("features", "A single read as time passes", "minutes", "ms", lines, log=False),),
    )


def slope_percent(minutes: Sequence[float], level: Sequence[float]) -> float:
    """Of the straight line through the medians, % of their median a minute."""
    return float(np.polyfit(minutes, level, 1)[0] / statistics.median(level) * 100)


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
            RAW: _pipeline(raw, keys, packed),
            RAW_FIELDS: _pipeline(raw, keys, fields),
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


def _fields(
    store: FeatureStore, schema: FeatureSchema, key: str
) -> tuple[list[bytes | str], list[bytes | str]]:
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
