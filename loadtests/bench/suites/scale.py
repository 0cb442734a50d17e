"""Scale: what one request costs as items, users, candidates, history and batches grow, one at a time.

In process and in turn, on bundles of the right shapes (`loadtests.bench.shapes`). Does not belong here: how
fast an index can be (`retrieval`), or a store (`features`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from features.feast_store import FeastOnlineStore
from features.redis_address import WRITE_TIMEOUT_S
from features.store import OnlineStore
from loadtests.bench import inputs
from loadtests.bench.inputs import World
from loadtests.bench.result import Cell, Section, Spread, Table
from loadtests.bench.rounds import Effort, in_turn
from loadtests.bench.shapes import Shaped, shaped
from serving.batch import Queries
from serving.build import compose
from serving.config import CacheConfig, ServeConfig
from serving.eligibility import Eligibility, hidden
from serving.expressions import CatalogueFilter
from serving.retrieval.sources import PopularSource, VectorSource
from serving.runtime.factory import runtime
from serving.runtime_options import RuntimeName, RuntimeOptions
from serving.stages import Source
from serving.types import Diversity, History, Query
from training.catalogue import Catalogue
from training.models.index import ExactIndex
from training.models.scores import BaseModels
from training.models.statistics import ItemStatistics
from training.models.two_tower.model import TwoTowerScorer
from training.recipe import default

STEP = 10
HISTORY = 50
"""Events of a request's history where it is not the history that grows: a usual one."""
BATCHES = (1, 8, 32)
"""Requests at the same moment; 32 is the most that one batch holds by default."""
DIFFERENT = 64
"""Different requests of an arm."""
NOW = 1_640_000_000.0
"""Unix seconds, about the end of every synthetic world."""
TEXT = """\
The median of one request in this process (no HTTP, no cache), at each size and divided by the first, in turn.
Models are untrained: noise of the right shapes, since cost depends on shapes. One thing grows at a time:
`items` of the catalogue (dense linear models end at 20,000, so what goes further is shown source by source,
over an exact index), `users` in Feast on an embedded Valkey, the read included, `candidates` as every
source's share and the blend's, `history` as events sent with the request, and `batch` as requests computed as
one, whose time is divided by their number.
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Where everything starts. `far` are the catalogues of single sources."""

    users: int
    items: int
    far: tuple[int, ...]
    history: int


FULL = Sizes(users=1_000, items=1_700, far=(10_000, 100_000, 1_000_000), history=20)
SHORT = Sizes(users=100, items=170, far=(1_000, 10_000), history=10)

Ask = Callable[[Sequence[Query]], Awaitable[object]]
"""Answers queries of the same moment."""
Arm = Callable[[], float]
Axes = Mapping[str, Mapping[int, Arm]]
"""What grows → size → the median seconds of a request, measured once more with each call."""


class Lost(Exception):
    """A stage was lost while it was timed."""


def run(effort: Effort, world: World) -> Section:
    sizes = SHORT if effort.quick else FULL
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        base, large = shaped(sizes.users, sizes.items), shaped(sizes.users, sizes.items * STEP)
        crowded = shaped(sizes.users * STEP, sizes.items)
        median = partial(_median, runner, effort.repeats)
        usual, candidates = sessions(base, HISTORY), default().candidates
        axes: Axes = {
            "items": {
                len(each.bundle.catalogue): median(pipeline(each), sessions(each, HISTORY))
                for each in (base, large)
            },
            "users": {
                len(each.user_ids): median(_online(each, stack, runner, world.work / name), known(each))
                for name, each in (("base", base), ("crowded", crowded))
            },
            "candidates": {
                factor * candidates: median(pipeline(large, factor), sessions(large, HISTORY))
                for factor in (1, STEP)
            },
            "history": {
                events: median(pipeline(base), sessions(base, events))
                for events in (sizes.history, sizes.history * STEP)
            },
            "batch": {size: median(pipeline(base), usual, at_once=size) for size in BATCHES},
            **_far(median, base, sizes.far),
        }
        return section(_measure(axes, effort.rounds))


def _measure(axes: Axes, rounds: int) -> dict[str, dict[int, Spread]]:
    """What grows → size → seconds."""
    arms = {
        f"{axis} {size:,}": (axis, size, arm) for axis, arms in axes.items() for size, arm in arms.items()
    }
    found = in_turn({name: arm for name, (_, _, arm) in arms.items()}, rounds)
    measured: dict[str, dict[int, Spread]] = {axis: {} for axis in axes}
    for name, (axis, size, _) in arms.items():
        measured[axis][size] = Spread(tuple(found[name]))
    return measured


def section(measured: Mapping[str, Mapping[int, Spread]]) -> Section:
    """What grows → size → seconds of a request."""
    rows: list[tuple[Cell, ...]] = []
    for axis, sizes in measured.items():
        first, base = next(iter(sizes.items()))
        rows += [
            (axis, size, size // first, each.times(1e3), each.over(base)) for size, each in sizes.items()
        ]
    table = Table("", ("what grows", "to", "times", "ms a request", "÷ the first"), tuple(rows))
    return Section("scale", "Scale: what a request costs as things grow", TEXT, (table,))


def _median(
    runner: asyncio.Runner, repeats: int, ask: Ask, queries: Sequence[Query], at_once: int = 1
) -> Arm:
    """Of a request, `at_once` asked at the same moment; all asked once before any counts."""

    async def once(times: int) -> float:
        taken = []
        for turn in range(times):
            deadline = time.monotonic() + inputs.PATIENT.request / 1e3
            some = [
                replace(queries[(turn * at_once + at) % len(queries)], deadline=deadline)
                for at in range(at_once)
            ]
            started = time.perf_counter()
            await ask(some)
            taken.append((time.perf_counter() - started) / at_once)
        return float(np.median(taken))

    runner.run(once(-(-len(queries) // at_once)))
    return lambda: runner.run(once(repeats))


def pipeline(world: Shaped, factor: int = 1, store: OnlineStore | None = None) -> Ask:
    """Raises Lost where a stage of it is lost."""
    declared = default().with_limits(lambda _, limit: factor * limit).declaration()
    config = ServeConfig(bundle="shaped", budgets=inputs.PATIENT, cache=CacheConfig(items=0))
    engine = compose(replace(world.bundle, declaration=declared), store or world.store(), config)

    async def ask(queries: Sequence[Query]) -> None:
        answers = await asyncio.gather(*(engine.recommend.run(query) for query in queries))
        if lost := {stage for answer in answers for stage in answer.degraded}:
            raise Lost(f"lost {', '.join(sorted(lost))}")

    return ask


def _online(world: Shaped, stack: ExitStack, runner: asyncio.Runner, work: Path) -> Ask:
    """The pipeline over Feast on a Redis of its own that holds the world's users."""
    world.tables.write(work / "home" / "data", {})
    url = stack.enter_context(inputs.redis(World(work / "home", work, work)))
    store = FeastOnlineStore(world.bundle.schema, url, read_timeout_s=WRITE_TIMEOUT_S)
    stack.callback(lambda: runner.run(store.close()))
    return pipeline(world, store=store)


def _far(median: Callable[[Ask, Sequence[Query]], Arm], base: Shaped, catalogues: Sequence[int]) -> Axes:
    """The sources that need no dense model, each alone."""
    rng = np.random.default_rng(0)
    axes: dict[str, dict[int, Arm]] = {"items, two-tower alone": {}, "items, popular alone": {}}
    width, limits = base.bundle.schema.user_width, default().sizes
    for items in catalogues:
        eligible = _everything(items)
        models = BaseModels(_two_tower(base, items, rng), {}, _statistics(items, rng))
        index = ExactIndex(models.two_tower.item_vectors)
        for source in (
            VectorSource("two-tower", models, index, eligible, limits["two_tower"]),
            PopularSource(models.statistics, eligible, limits["popular"]),
        ):
            axes[f"items, {source.name} alone"][items] = median(
                _source(source, width), sessions(base, HISTORY)
            )
    return axes


def _source(source: Source, user_width: int) -> Ask:
    async def ask(queries: Sequence[Query]) -> None:
        source.retrieve(Queries.of(queries, user_width, [hidden(query) for query in queries]))

    return ask


def _everything(items: int) -> Eligibility:
    ids = pa.array(np.arange(items)).cast(pa.string())
    catalogue = Catalogue(pa.table({"item_id": ids}), np.zeros((items, 1), np.float32))
    return Eligibility(CatalogueFilter(catalogue))


def _two_tower(base: Shaped, items: int, rng: np.random.Generator) -> TwoTowerScorer:
    """The base world's user tower over a larger catalogue."""
    component, version = base.bundle.component("two_tower"), base.bundle.manifest.version
    vectors = rng.standard_normal((items, component.arrays["item_vectors"].shape[1]), dtype=np.float32)
    norms = np.linalg.norm(vectors, axis=1)
    larger = {"item_vectors": vectors / norms[:, None], "item_norms": norms}
    networks = runtime(RuntimeName.ONNX, RuntimeOptions())
    network = networks.network(component, "two_tower", version, TwoTowerScorer.NETWORK)
    return TwoTowerScorer.from_component(replace(component, arrays=larger), network)


def _statistics(items: int, rng: np.random.Generator) -> ItemStatistics:
    """One event an item, spread over the month before now."""
    when = NOW - rng.random(items) * 30 * 86_400
    return ItemStatistics.from_events(
        np.arange(items, dtype=np.int32), np.ones(items, np.float32), when, items
    )


def known(world: Shaped) -> list[Query]:
    """Users of the store, spread over all of them."""
    users = world.user_ids
    return [_query(user_id=users[at * len(users) // DIFFERENT]) for at in range(DIFFERENT)]


def sessions(world: Shaped, events: int) -> list[Query]:
    """Visitors with so many different items of the catalogue."""
    rng = np.random.default_rng(events)
    value, times = np.ones(events, np.float32), NOW - np.arange(events, 0.0, -1.0)
    pasts = [
        rng.choice(len(world.bundle.catalogue), events, replace=False).astype(np.int32)
        for _ in range(DIFFERENT)
    ]
    return [_query(session=True, history=History(past, value, times)) for past in pasts]


def _query(user_id: str | None = None, session: bool = False, history: History | None = None) -> Query:
    return Query(
        request_id="scale",
        user_id=user_id,
        now=NOW,
        deadline=0.0,
        count=10,
        session=session,
        diversity=Diversity("mmr", 0.3),
        history=history or History.empty(),
    )
