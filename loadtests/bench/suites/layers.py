"""Layers: where one request's time goes, from a server's call of the application to the last byte sent.

The application runs in this process, called as a server would call it, over Feast on a real Redis. Spans lie
round public functions; the stages' times are those of the answer itself. Does not belong here: sockets and
other servers (`peers`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from starlette.types import ASGIApp

from features.feast_store import FeastOnlineStore
from loadtests import traffic
from loadtests.bench import inputs
from loadtests.bench.result import Cell, Goal, Section, Spread, Table
from loadtests.bench.rounds import Effort, in_turn
from loadtests.bench.spans import Spans
from loadtests.bench.world import World
from serving.assemble import build_stages, compose
from serving.config import CacheConfig, ServeConfig
from serving.engine import Engine
from serving.http import wire
from serving.http.api import create_api
from serving.http.schemas import RecommendationRequest
from serving.observe.prometheus import PrometheusRecorder
from serving.pipeline import RecommendationPipeline
from serving.traffic.live import Live
from serving.types import Query, Recommendation
from training.bundle import read_bundle

STAGES = ("features", "cache", "retrieval", "blend", "filter", "ranker", "diversity", "explainer")
"""Of `Recommendation.timings_ms`, those that follow one another; sources run within `retrieval`."""

TEXT = """\
The application in this process, called through ASGI with no server and no socket, over Feast on an embedded
Valkey; one request at a time, each of which reads its user's row, as a replica does for whoever it has not
seen since the row was written. `HTTP in` is everything before the body is validated (routing, limits, reading
it), `HTTP out` everything after the answer is bytes; `executor` is what the pipeline takes outside stages.
A figure is the mean over the middle half of a round's requests by total time: unlike medians, means add up.
What no span covers is `not covered`.
"""

DEMANDING = replace(traffic.PLAIN, explained=1.0, filtered=1.0)

WITHIN = 0.05
"""Share of the total that the spans may leave out."""

PATH = "/v1/recommendations"

WARM = 20
"""Requests of each arm before any counts."""

BODIES = 500
"""Different requests; with Zipf users a few hundred of them ask."""


class Degraded(Exception):
    """A stage was lost, so its time would not be its own."""


@dataclass(frozen=True, slots=True)
class Timed:
    """One request, ms. `layers` follow one another and leave only `total` minus their sum out."""

    total: float
    layers: Mapping[str, float]
    sources: Mapping[str, float]

    @property
    def rest(self) -> float:
        return self.total - sum(self.layers.values())


class _Measured:
    """A pipeline that is itself a span, and keeps its last answer."""

    def __init__(self, pipeline: RecommendationPipeline, spans: Spans) -> None:
        self._pipeline, self._spans = pipeline, spans
        self.answer: Recommendation | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)

    async def run(self, query: Query) -> Recommendation:
        with self._spans.span("pipeline"):
            self.answer = await self._pipeline.run(query)
        return self.answer


class Application:
    """The application in this process. One request at a time."""

    def __init__(self, engine: Engine, config: ServeConfig, recorder: PrometheusRecorder) -> None:
        self._spans = Spans()
        self._pipeline = _Measured(engine.recommend, self._spans)
        measured = replace(engine, recommend=cast(RecommendationPipeline, self._pipeline))
        self._app = create_api(Live.of(measured), config, recorder)

    async def ask(self, body: bytes) -> Timed:
        """Raises:
        NeverEntered: serving calls other functions than those measured here.
        Degraded: a stage was lost.
        """
        self._spans.reset()
        functions: dict[str, tuple[object, str]] = {
            "validation": (RecommendationRequest, "parse"),
            "query": (wire, "recommendation_query"),
            "serialisation": (wire, "recommendation_body"),
        }
        with self._spans.round_functions(functions):
            began = time.perf_counter()
            await exchange(self._app, body)
            ended = time.perf_counter()
        return self._timed(began, ended)

    def _timed(self, began: float, ended: float) -> Timed:
        spans, answer = self._spans, self._pipeline.answer
        assert answer is not None
        if answer.degraded:
            raise Degraded(f"lost {', '.join(answer.degraded)}")
        stages = {stage: answer.timings_ms[stage] for stage in STAGES if stage in answer.timings_ms}
        layers = {
            "HTTP in": (spans.began("validation") - began) * 1e3,
            "validation": spans.seconds("validation") * 1e3,
            "query": spans.seconds("query") * 1e3,
            **stages,
            "executor": spans.seconds("pipeline") * 1e3 - sum(stages.values()),
            "serialisation": spans.seconds("serialisation") * 1e3,
            "HTTP out": (ended - spans.ended("serialisation")) * 1e3,
        }
        sources = {name: ms for name, ms in answer.timings_ms.items() if name.startswith("source:")}
        return Timed((ended - began) * 1e3, layers, sources)


async def exchange(app: ASGIApp, body: bytes) -> None:
    """One ASGI exchange, as a server would hold it.

    Raises:
        Degraded: it was not answered with 200.
    """
    headers = [
        (b"host", b"localhost"),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    status: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            status.append(message["status"])

    await app(scope, receive, send)
    if status != [200]:
        raise Degraded(f"the application answered {status} to {body!r}")


def run(effort: Effort, world: World) -> Section:
    plain, demanding = (
        inputs.bodies(world, BODIES, mix).read_bytes().splitlines() for mix in (traffic.PLAIN, DEMANDING)
    )
    with _applications(world) as (runner, computing, keeping):
        arms = {
            "plain": _arm(runner, computing, plain, effort.repeats),
            "with a filter and reasons": _arm(runner, computing, demanding, effort.repeats),
            "plain, answered from the cache": _arm(runner, keeping, plain[:1], effort.repeats),
        }
        found = in_turn(arms, effort.rounds)
    return section(found)


@contextmanager
def _applications(world: World) -> Iterator[tuple[asyncio.Runner, Application, Application]]:
    """One that computes every answer, and one that keeps them, over the same store and stages."""
    bundle = read_bundle(str(world.bundle))
    kept = ServeConfig(bundle=str(world.bundle), budgets=inputs.PATIENT)
    computed = kept.model_copy(update={"cache": CacheConfig(items=0)})
    stages, recorder = build_stages(bundle, computed), PrometheusRecorder()
    with inputs.redis(world) as redis_url, asyncio.Runner() as runner:
        store = FeastOnlineStore(bundle.schema, redis_url)
        try:
            computing, keeping = (
                Application(compose(bundle, stages, store, config, recorder), config, recorder)
                for config in (computed, kept)
            )
            yield runner, computing, keeping
        finally:
            runner.run(store.close())


def _arm(
    runner: asyncio.Runner, application: Application, bodies: Sequence[bytes], repeats: int
) -> Callable[[], list[Timed]]:
    runner.run(_warm(application, bodies))
    return lambda: runner.run(_ask(application, bodies, repeats))


async def _warm(application: Application, bodies: Sequence[bytes]) -> None:
    """Until it answers whole: the first read opens connections, which may cost a stage its budget."""
    for attempt in range(WARM):
        try:
            await application.ask(bodies[attempt % len(bodies)])
        except Degraded:
            if attempt == WARM - 1:
                raise


async def _ask(application: Application, bodies: Sequence[bytes], repeats: int) -> list[Timed]:
    return [await application.ask(bodies[at % len(bodies)]) for at in range(repeats)]


def section(found: Mapping[str, Sequence[Sequence[Timed]]]) -> Section:
    """Kind of request → rounds → what was timed."""
    means = {kind: [middle_mean(one) for one in rounds] for kind, rounds in found.items()}
    shares = {
        kind: Spread(tuple(abs(one.rest) / one.total for one in rounds)) for kind, rounds in means.items()
    }
    return Section(
        name="layers",
        title="Layers: where one request's time goes",
        text=TEXT,
        tables=tuple(_table(kind, rounds) for kind, rounds in means.items()),
        goals=tuple(
            Goal(f"layers, {kind}: share of the total that no span covers", share, "at most", WITHIN)
            for kind, share in shares.items()
        ),
    )


def middle_mean(timed: Sequence[Timed]) -> Timed:
    """The mean of the half of the requests whose totals are nearest the median."""
    ordered = sorted(timed, key=lambda one: one.total)
    cut = len(ordered) // 4
    middle = ordered[cut : len(ordered) - cut]
    return Timed(
        float(np.mean([one.total for one in middle])),
        _means([one.layers for one in middle]),
        _means([one.sources for one in middle]),
    )


def _means(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of every name that occurs; where one is absent it took no time."""
    names = dict.fromkeys(name for one in each for name in one)
    return {name: sum(one.get(name, 0.0) for one in each) / len(each) for name in names}


def _table(kind: str, rounds: Sequence[Timed]) -> Table:
    total = Spread(tuple(one.total for one in rounds))

    def row(name: str, values: Sequence[float]) -> tuple[Cell, ...]:
        taken = Spread(tuple(values))
        return name, taken, Spread(tuple(100 * value for value in taken.over(total).values))

    layers = dict.fromkeys(name for one in rounds for name in one.layers)
    sources = dict.fromkeys(name for one in rounds for name in one.sources)
    rows = []
    for name in layers:
        rows.append(row(name, [one.layers.get(name, 0.0) for one in rounds]))
        if name == "retrieval":
            rows += [
                row(f"… {source}", [one.sources.get(source, 0.0) for one in rounds]) for source in sources
            ]
    rows += [row("not covered", [one.rest for one in rounds]), row("total", total.values)]
    return Table(f"A request, {kind}", ("layer", "ms", "% of the total"), tuple(rows))
