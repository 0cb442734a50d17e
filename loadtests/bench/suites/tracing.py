"""Tracing: what it costs a request to sample one in a hundred, and to sample all.

The application runs in this process as in `layers`, over the same store and stages; arms differ in the tracer
only. Does not belong here: what a span holds.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from unittest import mock

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import NoOpTracer, Tracer
from starlette.types import ASGIApp

from features.feast_store import FeastOnlineStore
from loadtests import traffic
from loadtests.bench import inputs
from loadtests.bench.result import Goal, Section, Spread, Table
from loadtests.bench.rounds import Effort
from loadtests.bench.suites.layers import exchange
from loadtests.bench.world import World
from serving.assemble import build_stages, compose
from serving.config import CacheConfig, ServeConfig
from serving.http.api import create_api
from serving.observe import tracing
from serving.observe.prometheus import PrometheusRecorder
from serving.traffic.live import Live
from training.bundle import read_bundle

COST = 1.03
"""Of a request's CPU time without traces, what sampling 1 % may take."""

ONE_PERCENT, ALL = "1 %", "all"
SHARES = {ONE_PERCENT: 0.01, ALL: 1.0}

SLICE = 10
"""Requests of one arm before the next has its turn: short against the machine's changes of speed."""

REQUESTS = 10
"""Requests for each repeat of the effort: 3 % of 3 ms are little to see on a busy machine."""

BODIES = 200
"""Different requests; every arm is asked the same ones."""

FLUSH_MS = 10_000
"""For what is still queued when an arm ends."""

TEXT = """\
CPU time of this process for one request, the exporter's thread included, through ASGI without a server, over
Feast on an embedded Valkey; answers are computed, not kept. Off and on take turns every ten requests, so that
a slow moment hits both alike. The sampler is OpenTelemetry's `parentbased_traceidratio`; spans go by OTLP
over HTTP to a collector in another process that throws them away.
"""

COLLECTOR = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *_): pass
with ThreadingHTTPServer(("127.0.0.1", 0), Sink) as server:
    print(server.server_port, flush=True)
    server.serve_forever()
"""


def run(effort: Effort, world: World) -> Section:
    bodies = inputs.bodies(world, BODIES, traffic.PLAIN).read_bytes().splitlines()
    with _application(world) as (runner, app), _collector() as url:

        def beside(share: float) -> list[tuple[float, float]]:
            """Rounds of (off, on): two arms only, as what one arm exports would be paid by a third."""
            with _exporting(url, share) as on:
                arms = (NoOpTracer(), on)
                for tracer in arms:
                    runner.run(_ask(app, tracer, bodies))  # opens connections, fills caches
                requests = effort.repeats * REQUESTS
                return [_round(runner, app, arms, bodies, requests) for _ in range(effort.rounds)]

        return section({sampled: beside(share) for sampled, share in SHARES.items()})


def section(found: Mapping[str, Sequence[tuple[float, float]]]) -> Section:
    """What was sampled → rounds of ms of CPU a request, (off, on)."""
    spreads = {
        sampled: (Spread(tuple(off for off, _ in rounds)), Spread(tuple(on for _, on in rounds)))
        for sampled, rounds in found.items()
    }
    rows = tuple((sampled, off, on, on.over(off)) for sampled, (off, on) in spreads.items())
    off, on = spreads[ONE_PERCENT]
    return Section(
        name="tracing",
        title="Tracing: what it costs a request",
        text=TEXT,
        tables=(Table("One request", ("sampled", "off, ms of CPU", "on, ms of CPU", "on over off"), rows),),
        goals=(Goal("tracing, sampling 1 %: CPU time over that without", on.over(off), "at most", COST),),
    )


def _round(
    runner: asyncio.Runner,
    app: ASGIApp,
    arms: tuple[Tracer, Tracer],
    bodies: Sequence[bytes],
    requests: int,
) -> tuple[float, float]:
    """ms of CPU a request, for each arm."""
    taken = [0.0, 0.0]
    slices = max(1, requests // SLICE)
    for turn in range(slices):
        begin = turn * SLICE % len(bodies)
        for arm in (0, 1) if turn % 2 else (1, 0):
            started = time.process_time()
            runner.run(_ask(app, arms[arm], bodies[begin : begin + SLICE]))
            taken[arm] += time.process_time() - started
    off, on = (seconds * 1e3 / (slices * SLICE) for seconds in taken)
    return off, on


async def _ask(app: ASGIApp, tracer: Tracer, bodies: Sequence[bytes]) -> None:
    with mock.patch.object(tracing, "_tracer", tracer):
        for body in bodies:
            await exchange(app, body)


@contextmanager
def _application(world: World) -> Iterator[tuple[asyncio.Runner, ASGIApp]]:
    bundle = read_bundle(str(world.bundle))
    config = ServeConfig(bundle=str(world.bundle), budgets=inputs.PATIENT, cache=CacheConfig(items=0))
    recorder = PrometheusRecorder()
    with inputs.redis(world) as redis_url, asyncio.Runner() as runner:
        store = FeastOnlineStore(bundle.schema, redis_url)
        try:
            engine = compose(bundle, build_stages(bundle, config), store, config, recorder)
            yield runner, create_api(Live.of(engine), config, recorder)
        finally:
            runner.run(store.close())


@contextmanager
def _collector() -> Iterator[str]:
    """Where it takes spans."""
    with subprocess.Popen([sys.executable, "-c", COLLECTOR], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1/traces"
        finally:
            process.kill()


@contextmanager
def _exporting(url: str, share: float) -> Iterator[Tracer]:
    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(share))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(url)))
    try:
        yield provider.get_tracer("bench")
    finally:
        provider.force_flush(FLUSH_MS)
        provider.shutdown()
