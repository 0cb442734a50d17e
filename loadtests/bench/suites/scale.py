"""Scale: what one request costs as items, users, candidates and history grow tenfold, one at a time.

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

from features.feast_store import FeastOnlineStore
from features.store import OnlineStore
from loadtests.bench import inputs
from loadtests.bench.result import Cell, Plot, Section, Spread, Table
from loadtests.bench.rounds import Effort, in_turn
from loadtests.bench.shapes import Shaped, shaped
from loadtests.bench.world import World
from serving.assemble import build_stages, compose
from serving.config import CacheConfig, RetrievalConfig, ServeConfig
from serving.retrieval.eligible import Eligible
from serving.retrieval.index import ExactIndex
from serving.retrieval.popular import PopularSource
from serving.retrieval.two_tower import TwoTowerSource
from serving.stages import Source
from serving.types import Diversity, History, Query
from training.bundle import Component
from training.models.statistics import ItemStatistics
from training.models.two_tower import TwoTowerScorer

STEP = 10
HISTORY = 50
"""Events of a request's history where it is not the history that grows: a usual one."""
DIFFERENT = 50
"""Different requests of an arm."""
NOW = 1_640_000_000.0
"""Unix seconds, about the end of every synthetic world."""
TEXT = """\
The median of one request in this process (no HTTP, no cache), at each size and divided by the first, in turn.
Models are untrained: noise of the right shapes, since cost depends on shapes. One thing grows at a time:
`items` of the catalogue (dense linear models end at 20,000, so what goes further is shown source by source),
`users` in Feast on an embedded Valkey, the read included, `candidates` as every source's share and the
blend's, and `history` as events sent with the request.
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

Ask = Callable[[Query], Awaitable[object]]
Arm = Callable[[], float]
Axes = Mapping[str, Mapping[int, Arm]]
"""What grows → size → the median seconds of a request, measured once more with each call."""


class Lost(Exception):
    """A stage was lost while it was timed."""


def run(effort: Effort, world: World) -> Section:
    sizes = SHORT if effort.quick else FULL
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        base = shaped(sizes.users, sizes.items)
        large = shaped(sizes.users, sizes.items * STEP)
        crowded = shaped(sizes.users * STEP, sizes.items)
        median = partial(_median, runner, effort.repeats)
        axes: Axes = {
            "items": {
                sizes.items: median(_pipeline(base), _sessions(base, HISTORY)),
                sizes.items * STEP: median(_pipeline(large), _sessions(large, HISTORY)),
            },
            "users": {
                users: median(_online(some, stack, runner, world.work / str(users)), _known(some))
                for users, some in ((sizes.users, base), (sizes.users * STEP, crowded))
            },
            "candidates": {
                factor * RetrievalConfig().candidates: median(
                    _pipeline(large, factor), _sessions(large, HISTORY)
                )
                for factor in (1, STEP)
            },
            "history": {
                events: median(_pipeline(base), _sessions(base, events))
                for events in (sizes.history, sizes.history * STEP)
            },
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
    lines = {}
    for axis, sizes in measured.items():
        first, base = next(iter(sizes.items()))
        for size, seconds in sizes.items():
            ms = Spread(tuple(1e3 * value for value in seconds.values))
            rows.append((axis, size, size // first, ms, seconds.over(base)))
        lines[axis] = tuple((size / first, s.over(base).median) for size, s in sizes.items())
    return Section(
        name="scale",
        title="Scale: what a request costs as things grow",
        text=TEXT,
        tables=(Table("", ("what grows", "to", "times", "ms a request", "÷ the first"), tuple(rows)),),
        plots=(
            Plot("growth", "Cost of a request as one thing grows", "times as many", "times the cost", lines),
        ),
    )


def _median(runner: asyncio.Runner, repeats: int, ask: Ask, queries: Sequence[Query]) -> Arm:
    """Asked once through before it counts."""

    async def once(times: int) -> float:
        taken = []
        for at in range(times):
            query = replace(
                queries[at % len(queries)], deadline=time.monotonic() + inputs.PATIENT.request / 1e3
            )
            started = time.perf_counter()
            await ask(query)
            taken.append(time.perf_counter() - started)
        return float(np.median(taken))

    runner.run(once(len(queries)))
    return lambda: runner.run(once(repeats))


def _pipeline(world: Shaped, factor: int = 1, store: OnlineStore | None = None) -> Ask:
    """Raises Lost where a stage of it is lost."""
    retrieval = RetrievalConfig(**{name: factor * size for name, size in _shares().items()})
    config = ServeConfig(
        bundle="shaped", budgets=inputs.PATIENT, cache=CacheConfig(items=0), retrieval=retrieval
    )
    engine = compose(world.bundle, build_stages(world.bundle, config), store or world.store(), config)

    async def ask(query: Query) -> None:
        if (answer := await engine.recommend.run(query)).degraded:
            raise Lost(f"lost {', '.join(answer.degraded)}")

    return ask


def _shares() -> dict[str, int]:
    """What the sources may bring and the blend may keep, by the configuration's names."""
    limits = RetrievalConfig()
    names = ("two_tower", "ease", "sequential", "popular", "candidates")
    return {name: getattr(limits, name) for name in names}


def _online(world: Shaped, stack: ExitStack, runner: asyncio.Runner, work: Path) -> Ask:
    """The pipeline over Feast on a Redis of its own that holds the world's users."""
    world.tables.write(work / "home" / "data", {})
    url = stack.enter_context(inputs.redis(World(work / "home", work, work)))
    store = FeastOnlineStore(world.bundle.schema, url)
    stack.callback(lambda: runner.run(store.close()))
    return _pipeline(world, store=store)


def _far(median: Callable[[Ask, Sequence[Query]], Arm], base: Shaped, catalogues: Sequence[int]) -> Axes:
    """The sources that need no dense model, each alone."""
    rng = np.random.default_rng(0)
    axes: dict[str, dict[int, Arm]] = {"items, two-tower alone": {}, "items, popular alone": {}}
    for items in catalogues:
        everything = _everything(items)
        model = _two_tower(base, items, rng)
        limits = RetrievalConfig()
        sources: dict[str, Source] = {
            "two-tower": TwoTowerSource(model, ExactIndex(model.item_vectors), everything, limits.two_tower),
            "popular": PopularSource(_statistics(items, rng), everything, limits.popular),
        }
        for name, source in sources.items():
            axes[f"items, {name} alone"][items] = median(source.retrieve, _sessions(base, HISTORY))
    return axes


def _everything(items: int) -> Eligible:
    mask = np.ones(items, np.bool_)
    return lambda _: mask


def _two_tower(base: Shaped, items: int, rng: np.random.Generator) -> TwoTowerScorer:
    """The base world's user tower over a larger catalogue."""
    component = base.bundle.component("two_tower")
    dimension = component.arrays["items"].shape[1]
    larger = {"items": rng.standard_normal((items, dimension), dtype=np.float32)}
    return TwoTowerScorer.from_component(Component(component.settings, {**component.arrays, **larger}))


def _statistics(items: int, rng: np.random.Generator) -> ItemStatistics:
    """One event an item, spread over the month before now."""
    when = NOW - rng.random(items) * 30 * 86_400
    return ItemStatistics.from_events(
        np.arange(items, dtype=np.int32), np.ones(items, np.float32), when, items
    )


def _known(world: Shaped) -> list[Query]:
    """Users of the store, spread over all of them."""
    users = world.user_ids
    return [_query(user_id=users[at * len(users) // DIFFERENT]) for at in range(DIFFERENT)]


def _sessions(world: Shaped, events: int) -> list[Query]:
    """Visitors with so many different items of the catalogue."""
    rng = np.random.default_rng(events)
    value, times = np.ones(events, np.float32), NOW - np.arange(events, 0.0, -1.0)
    return [
        _query(
            session=True,
            history=History(
                rng.choice(len(world.bundle.catalogue), events, replace=False).astype(np.int32), value, times
            ),
        )
        for _ in range(DIFFERENT)
    ]


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
