"""Marquee with its cache of answers: hits, misses, and the mixture that a day of people brings.

Does not belong here: the loads (`peers.caching`), arithmetic on the findings (`peers.cache_figures`).
"""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urljoin

import pyarrow.parquet as pq

from loadtests import traffic
from loadtests.bench import inputs, load
from loadtests.bench.peers import cache_figures, caching, figures, ray_noop
from loadtests.bench.peers.arms import Arms, Running, started
from loadtests.bench.peers.cache_figures import Cached
from loadtests.bench.peers.figures import MANY
from loadtests.bench.result import Goal, Section, Spread
from loadtests.bench.rounds import Effort, in_turn
from loadtests.bench.suites.peers import BODIES, WARM_S
from loadtests.bench.world import World
from serving.local.ports import free_block

REPLICAS = 2
"""Of Marquee: as many as the machine of the goals has cores."""

NEW_BODIES = 40_000
"""For one load of one round: more than are asked in it, so that what was new stays new."""

TEXT = """Marquee fused, with its cache of answers, on two replicas, over Feast on an embedded Valkey; the \
load generator (wrk) runs on the same cores, and the no-op, on a Ray of its own, is suspended while Marquee \
is measured. Hits are requests of users who were answered before, and whose row was not written since; a \
miss excludes items that nobody excluded before, so that it costs a whole run of the pipeline. The mixture \
asks seven in ten again."""


def run(effort: Effort, world: World) -> Section:
    """Full only: two clusters for a figure that a second of load says nothing about."""
    if effort.quick:
        return Section("cache", "Cache", "", skipped="not part of the quick form")
    if shutil.which("wrk") is None:
        return Section("cache", "Cache", "", skipped="wrk is not installed: apt-get install wrk")
    can_open = caching.raise_open_files()
    with inputs.redis(world) as redis_url, ExitStack() as stack:
        arms = Arms(world.bundle, world.work, redis_url, REPLICAS, free_block())
        cached, noop = (stack.enter_context(started(arm)) for arm in (arms.cached(), arms.noop()))
        noop.suspend()
        hot = inputs.bodies(world, BODIES, traffic.PLAIN)
        load.closed(cached.url, everybody(world), MANY, effort.seconds * 4)
        turns = iter(range(effort.rounds))
        rounds = in_turn(
            {"cached": lambda: _round(cached, noop, effort, world, hot, next(turns))}, effort.rounds
        )["cached"]
        goals = cache_figures.goals(rounds)
        if can_open:
            goals.append(_open_connections(cached, hot))
    left_out = (
        f" Left out: {caching.CONNECTIONS:,} connections: raise `ulimit -n` above {caching.OPEN_FILES}."
    )
    text = TEXT if can_open else TEXT + left_out
    return Section("cache", "Cache", text, (cache_figures.table(rounds),), tuple(goals))


def _round(cached: Running, noop: Running, effort: Effort, world: World, hot: Path, turn: int) -> Cached:
    cached.suspend()
    noop.resume()
    load.closed(noop.url, hot, 1, WARM_S)
    unit = load.closed(noop.url, hot, 1, effort.seconds)
    validated = load.closed(urljoin(noop.url, ray_noop.VALIDATED), hot, 1, effort.seconds)
    noop.suspend()
    cached.resume()
    load.closed(cached.url, hot, 1, WARM_S)
    hit = load.closed(cached.url, hot, 1, effort.seconds)
    hits = load.closed(cached.url, hot, MANY, effort.seconds)
    misses = load.closed(cached.url, partly_new(world, 2 * turn, repeated=0.0), MANY, effort.seconds)
    before = caching.lookups(cached.url)
    mixture = partly_new(world, 2 * turn + 1, caching.REPEATED)
    zipf = load.closed(cached.url, mixture, MANY, effort.seconds)
    found, missed = (now - then for now, then in zip(caching.lookups(cached.url), before, strict=True))
    return Cached(unit, validated, hit, hits, misses, zipf, found / (found + missed))


def everybody(world: World) -> Path:
    """One plain request of every user, so that whoever asks again is answered from the cache."""
    path = world.work / "everybody.jsonl"
    texts = (json.dumps({"count": traffic.PLAIN.count, "user_id": user}) for user in inputs.user_ids(world))
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def partly_new(world: World, seed: int, repeated: float) -> Path:
    """Requests of which that share was asked before, others for every seed."""
    items = pq.read_table(world.bundle / "items.parquet", columns=["item_id"])["item_id"].to_pylist()
    plain = inputs.bodies(world, NEW_BODIES, traffic.PLAIN, seed=seed + 1)
    texts = plain.read_text(encoding="utf-8").splitlines()
    plain.write_text("\n".join(caching.partly_new(texts, items, seed, repeated)) + "\n", encoding="utf-8")
    return plain


def _open_connections(cached: Running, hot: Path) -> Goal:
    found = caching.many_connections(cached.url, hot)
    return Goal(
        f"{caching.CONNECTIONS:,} open connections, mostly idle: errors",
        Spread((float(figures.failures(found)),)),
        "at most",
        0.0,
        f"{found.requests_per_s:.0f} requests/s, p99 {found.p99_ms:.0f} ms",
    )
