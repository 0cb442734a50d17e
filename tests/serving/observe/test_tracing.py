from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import StatusCode

from serving.http.api import create_api
from serving.http.envelope import Envelope
from serving.observe import tracing
from serving.observe.prometheus import PrometheusRecorder
from serving.program import Here, Program
from serving.settings import Settings
from serving.state import State
from serving.steps import Retrieve
from serving.traffic.live import Live
from tests.collector import Collector, collecting
from tests.serving.doubles import FixedSource, batch_of, fails, queries_of, query_of
from tests.serving.fakes import CONFIG, call, engine_of, post

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{CALLER}-01", f"00-{TRACE}-{CALLER}-00"


def traced(monkeypatch: pytest.MonkeyPatch, **provider) -> InMemorySpanExporter:
    exporter, made = InMemorySpanExporter(), TracerProvider(**provider)
    made.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", made.get_tracer("tests"))
    return exporter


@pytest.fixture
def spans(monkeypatch) -> InMemorySpanExporter:
    return traced(monkeypatch)


def app_of(*sources):
    engine = engine_of(*sources)
    return create_api(Live.of(engine), CONFIG, PrometheusRecorder())


def named(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


async def recommend(app, **headers: str):
    return await post(app, "/v1/recommendations", {"user_id": "ann", "count": 3, "explain": True}, **headers)


async def test_a_request_is_one_trace_with_a_span_a_stage(spans):
    reply = await recommend(app_of(), x_request_id="r-1")
    found = named(spans)
    exchange = found.pop("POST /v1/recommendations")
    assert found.keys() == reply.json["timings"].keys() - {"retrieval"}
    assert {span.context.trace_id for span in found.values()} == {exchange.context.trace_id}
    for span in found.values():
        assert span.parent.span_id == exchange.context.span_id
        assert exchange.start_time <= span.start_time <= span.end_time <= exchange.end_time
    assert exchange.parent is None
    assert exchange.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/recommendations",
        "http.response.status_code": 200,
        "marquee.request_id": "r-1",
    }
    assert found["filter"].attributes == {"marquee.candidates.in": 40, "marquee.candidates.out": 38}


async def test_the_callers_trace_is_joined_and_told_on(spans):
    reply = await recommend(app_of(), traceparent=SAMPLED)
    exchange = named(spans)["POST /v1/recommendations"]
    assert f"{exchange.context.trace_id:032x}" == TRACE
    assert f"{exchange.parent.span_id:016x}" == CALLER
    assert reply.headers["traceparent"] == f"00-{TRACE}-{exchange.context.span_id:016x}-01"


async def test_what_the_caller_does_not_sample_is_not_sampled(spans):
    reply = await recommend(app_of(), traceparent=UNSAMPLED)
    assert spans.get_finished_spans() == ()
    assert reply.headers["traceparent"].startswith(f"00-{TRACE}-")
    assert reply.headers["traceparent"].endswith("-00")


@pytest.mark.parametrize("header", ["", "nonsense", f"00-{'0' * 32}-{CALLER}-01", SAMPLED[:-1]])
async def test_a_traceparent_that_is_none_starts_a_new_trace(spans, header):
    assert (await recommend(app_of(), traceparent=header)).status == 200
    exchange = named(spans)["POST /v1/recommendations"]
    assert exchange.parent is None
    assert f"{exchange.context.trace_id:032x}" != TRACE


async def test_what_is_not_sampled_leaves_nothing(monkeypatch):
    spans = traced(monkeypatch, sampler=ParentBased(ALWAYS_OFF))
    reply = await recommend(app_of())
    assert spans.get_finished_spans() == ()
    assert not int(reply.headers["traceparent"][-2:], 16) & 1


async def test_off_is_off():
    reply = await recommend(app_of())
    assert "traceparent" not in reply.headers


async def test_what_was_lost_is_said_by_its_class_only(spans):
    broken = FixedSource("broken", fault=fails)
    popular = FixedSource("popular", batch=batch_of(range(9)), personal=False)
    await recommend(app_of(broken, popular))
    lost = named(spans)["source:broken"]
    assert (lost.status.status_code, lost.status.description) == (StatusCode.ERROR, "ConnectionError")
    [event] = lost.events
    assert event.attributes == {"marquee.stage": "source:broken", "error.type": "ConnectionError"}
    assert "injected" not in "".join(span.to_json() for span in spans.get_finished_spans())
    assert named(spans)["POST /v1/recommendations"].status.status_code is StatusCode.UNSET


async def test_what_the_server_failed_is_an_error_and_names_no_user(spans):
    assert (await recommend(app_of(FixedSource("only", fault=fails)))).status == 503
    assert named(spans)["POST /v1/recommendations"].status.status_code is StatusCode.ERROR
    assert '"ann"' not in "".join(span.to_json() for span in spans.get_finished_spans())


async def test_an_exchange_that_breaks_off_is_ended_too(spans):
    async def half(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        raise LookupError("too late")

    with pytest.raises(LookupError):
        await call(Envelope(half, PrometheusRecorder()), "/")
    assert [span.name for span in spans.get_finished_spans()] == ["POST"]


async def test_each_traced_request_of_a_batch_gets_its_spans(spans):
    """Where the batch came from another process, its requests carry their parents with them."""
    with tracing._tracer.start_as_current_span("caller") as caller:
        traced = tracing.carried(query_of())
    queries = queries_of(query_of(), traced, query_of())
    program = Program([Retrieve(FixedSource("only", batch=batch_of([1, 2])), 0, 60)])
    deadline = np.full(3, time.monotonic() + 60)
    await Here().run(program, State.begin(queries, deadline, 1))
    [span] = [each for each in spans.get_finished_spans() if each.name == "source:only"]
    assert span.parent.span_id == caller.get_span_context().span_id
    assert span.attributes == {"marquee.candidates.in": 0, "marquee.candidates.out": 2}


def test_the_sdk_is_not_imported_while_traces_are_off():
    code = (
        "import serving.http.api, sys; "
        "assert not [m for m in sys.modules if m.startswith('opentelemetry.sdk')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize(
    ("environ", "on"),
    [
        ({}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "True"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_traces_are_on_where_a_collector_is_named(environ, on):
    assert Settings.read(environ).traced is on


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as one:
        yield one


EXPORTING = """
import asyncio, json
from opentelemetry import trace
from serving.observe import tracing
from serving.settings import Settings
from tests.serving.observe.test_tracing import app_of, recommend
if Settings.read().traced:
    tracing.start()
    tracing.start()  # once is enough
replies = [asyncio.run(recommend(app_of())) for _ in range(20)]
print(json.dumps([reply.headers["traceparent"] for reply in replies]))
"""


@pytest.mark.parametrize(("share", "kept"), [("1", 20), ("0", 0)])
def test_spans_reach_the_collector_that_the_environment_names(collector, share, kept):
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": share,
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=tests",
    }
    done = subprocess.run(
        [sys.executable, "-c", EXPORTING],
        check=True,
        timeout=120,
        capture_output=True,
        text=True,
        env={**os.environ, **environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    told = {header.split("-")[1] for header in json.loads(done.stdout.splitlines()[-1])}
    assert len(told) == 20
    assert {span.trace_id.hex() for span in collector.spans} == (told if kept else set())
    for one in collector.received:
        said = {pair.key: pair.value.string_value for pair in one.resource.attributes}
        assert said["service.name"] == "marquee"
        assert said["deployment.environment.name"] == "tests"
