"""Layers: where one request's time goes, from a server's call of the application to the last byte sent.

The application runs in this process, called as a server would call it, over Feast on a real Redis. Spans lie
round functions of the interface; the stages' times are those of the answer itself. Does not belong here:
sockets and other servers (`peers`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast
from unittest import mock

import numpy as np
from starlette.types import ASGIApp

from features.feast_store import FeastOnlineStore
from features.redis_address import WRITE_TIMEOUT_S
from loadtests import traffic
from loadtests.bench import inputs
from loadtests.bench.inputs import World
from loadtests.bench.result import Goal, Section, Spread, Table
from loadtests.bench.rounds import Effort, in_turn
from serving.build import Placement, compose
from serving.config import CacheConfig, ServeConfig
from serving.engine import Engine
from serving.http import wire
from serving.http.api import create_api
from serving.http.schemas import RecommendationRequest
from serving.observe.prometheus import PrometheusRecorder
from serving.pipeline import Pipeline
from serving.program import Here
from serving.steps import RETRIEVAL
from serving.traffic.live import Live
from serving.types import Query, Recommendation
from serving.worker_threads import WorkerThreads
from training.bundle import read_bundle

TEXT = """\
The application in this process, called through ASGI with no server and no socket, over Feast on an embedded
Valkey; one request at a time, each of which reads its user's row, as a replica does for whoever it has not
seen since the row was written. `HTTP in` is everything before the body is validated (routing, limits, reading
it), `HTTP out` everything after the answer is bytes; `executor` is what the
pipeline takes outside stages: its queue, the batch and the hand-over to a thread.
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


class NeverEntered(Exception):
    """A function that was to be measured was not called, or not once: the code under it has changed."""


Spans = dict[str, tuple[float, float]]
"""What was measured in one request → when it began and ended, on `time.perf_counter`."""


@contextmanager
def span(spans: Spans, name: str) -> Iterator[None]:
    if name in spans:
        raise NeverEntered(f"{name} was entered twice in one request")
    began = time.perf_counter()
    try:
        yield
    finally:
        spans[name] = began, time.perf_counter()


def measured(spans: Spans, name: str, owner: object, attribute: str) -> Any:
    """A context in which calls of this function, of a module or class, are a span."""
    function = getattr(owner, attribute)

    def call(*args: Any, **kwargs: Any) -> Any:
        with span(spans, name):
            return function(*args, **kwargs)

    return mock.patch.object(owner, attribute, call)


@dataclass(frozen=True, slots=True)
class Timed:
    """One request, ms. `layers` follow one another and leave only `total` minus their sum out."""

    total: float
    layers: Mapping[str, float]

    @property
    def rest(self) -> float:
        return self.total - sum(self.layers.values())


class _Measured:
    """A pipeline that is itself a span, and keeps its last answer."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.spans: Spans = {}
        self.answer: Recommendation | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)

    async def run(self, query: Query) -> Recommendation:
        with span(self.spans, "pipeline"):
            self.answer = await self._pipeline.run(query)
        return self.answer


class Application:
    """The application in this process. One request at a time."""

    def __init__(self, engine: Engine, config: ServeConfig, recorder: PrometheusRecorder) -> None:
        self._pipeline = _Measured(engine.recommend)
        engine = engine.with_pipeline("recommend", cast(Pipeline, self._pipeline))
        self._app = create_api(Live.of(engine), config, recorder)

    async def ask(self, body: bytes) -> Timed:
        """Raises:
        NeverEntered: serving calls other functions than those measured here.
        Degraded: a stage was lost.
        """
        spans: Spans = {}
        self._pipeline.spans = spans
        with (
            measured(spans, "validation", RecommendationRequest, "parse"),
            measured(spans, "query", wire, "recommendation_query"),
            measured(spans, "serialisation", wire, "recommendation_body"),
            span(spans, "total"),
        ):
            await exchange(self._app, body)
        if missing := {"validation", "query", "pipeline", "serialisation"} - spans.keys():
            raise NeverEntered(f"{', '.join(missing)}: not entered, so what is measured has changed")
        answer = self._pipeline.answer
        assert answer is not None
        if answer.degraded:
            raise Degraded(f"lost {', '.join(answer.degraded)}")
        return timed(spans, answer.timings_ms)


def timed(spans: Spans, timings_ms: Mapping[str, float]) -> Timed:
    """From a request's spans and its answer's timings, in which retrieval is all sources once more."""
    took = {name: (ended - began) * 1e3 for name, (began, ended) in spans.items()}
    stages = {stage: ms for stage, ms in timings_ms.items() if stage != RETRIEVAL}
    (began, ended), parsed, written = spans["total"], spans["validation"], spans["serialisation"]
    layers = {
        "HTTP in": (parsed[0] - began) * 1e3,
        "validation": took["validation"],
        "query": took["query"],
        **stages,
        "executor": took["pipeline"] - sum(stages.values()),
        "serialisation": took["serialisation"],
        "HTTP out": (ended - written[1]) * 1e3,
    }
    return Timed(took["total"], layers)


async def exchange(app: ASGIApp, body: bytes) -> None:
    """One ASGI exchange, as a server would hold it.

    Raises:
        Degraded: it was not answered with 200.
    """
    headers = {"host": "localhost", "content-type": "application/json", "content-length": str(len(body))}
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
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
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
    """One that computes every answer, and one that keeps them, over the same store, on a replica's
    threads."""
    bundle = read_bundle(str(world.bundle))
    kept = ServeConfig(bundle=str(world.bundle), budgets=inputs.PATIENT)
    computed = kept.model_copy(update={"cache": CacheConfig(items=0)})
    recorder = PrometheusRecorder()
    with (
        inputs.redis(world) as redis_url,
        closing(WorkerThreads()) as workers,
        asyncio.Runner() as runner,
    ):
        store, placement = (
            FeastOnlineStore(bundle.schema, redis_url, read_timeout_s=WRITE_TIMEOUT_S),
            Placement(runner=Here(workers)),
        )
        try:
            computing, keeping = (
                Application(compose(bundle, store, config, recorder, placement), config, recorder)
                for config in (computed, kept)
            )
            yield runner, computing, keeping
        finally:
            runner.run(store.close())


def _arm(
    runner: asyncio.Runner, application: Application, bodies: Sequence[bytes], repeats: int
) -> Callable[[], list[Timed]]:
    runner.run(_ask(application, bodies, WARM))
    return lambda: runner.run(_ask(application, bodies, repeats))


async def _ask(application: Application, bodies: Sequence[bytes], repeats: int) -> list[Timed]:
    return [await application.ask(bodies[at % len(bodies)]) for at in range(repeats)]


def section(found: Mapping[str, Sequence[Sequence[Timed]]]) -> Section:
    """Kind of request → rounds → what was timed."""
    means = {kind: [middle_mean(one) for one in rounds] for kind, rounds in found.items()}
    goals = (
        Goal(
            f"layers, {kind}: share of the total that no span covers",
            Spread(tuple(abs(one.rest) / one.total for one in rounds)),
            "at most",
            WITHIN,
        )
        for kind, rounds in means.items()
    )
    tables = tuple(_table(kind, rounds) for kind, rounds in means.items())
    return Section("layers", "Layers: where one request's time goes", TEXT, tables, tuple(goals))


def middle_mean(timed: Sequence[Timed]) -> Timed:
    """The mean of the half of the requests whose totals are nearest the median; where a layer is absent it
    took no time."""
    ordered = sorted(timed, key=lambda one: one.total)
    cut = len(ordered) // 4
    middle = ordered[cut : len(ordered) - cut]
    names = dict.fromkeys(name for one in middle for name in one.layers)
    layers = {name: float(np.mean([one.layers.get(name, 0.0) for one in middle])) for name in names}
    return Timed(float(np.mean([one.total for one in middle])), layers)


def _table(kind: str, rounds: Sequence[Timed]) -> Table:
    total = Spread(tuple(one.total for one in rounds))
    names = dict.fromkeys(name for one in rounds for name in one.layers)
    taken = {name: Spread(tuple(one.layers.get(name, 0.0) for one in rounds)) for name in names}
    taken |= {"not covered": Spread(tuple(one.rest for one in rounds)), "total": total}
    rows = tuple((name, spread, spread.over(total).times(100)) for name, spread in taken.items())
    return Table(f"A request, {kind}", ("layer", "ms", "% of the total"), rows)
