"""One trace a request (OpenTelemetry): a span for the exchange and one for each stage, over replicas too.

Off unless the environment names a collector (`Settings.traced`); the SDK, its sampler, its bounded queue and
its exporter are then made from the standard OTEL_* variables. Off, or for a request that is not sampled, a
stage costs one look at a context variable. W3C Trace Context (https://www.w3.org/TR/trace-context/) goes in
and out. Spans carry no user id and no text of an error, only its class.

Does not belong here: FastAPI's own tracing, whose preparations are paid by requests that are not sampled too.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import replace

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, NoOpTracer, Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serving.state import Loss, Timing
from serving.types import Query

W3C = TraceContextTextMapPropagator()
CARRIED = {b"traceparent": "traceparent", b"tracestate": "tracestate"}

SERVICE = "marquee"
"""What traces call this platform where OTEL_SERVICE_NAME does not say."""

_computed = ContextVar[str | None]("traceparent of the batch that is computed", default=None)
_OFF = NoOpTracer()
_tracer: Tracer = _OFF
_NOTHING = nullcontext(INVALID_SPAN)


def start() -> None:
    """Exports this process's spans as the OTEL_* variables say. Once in a process. The exporter's thread
    holds a bounded queue (OTEL_BSP_MAX_QUEUE_SIZE, 2,048 spans) and drops what does not fit."""
    global _tracer
    if _tracer is not _OFF:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = Resource({"service.name": SERVICE}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=Resource.create().merge(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)  # for libraries that trace themselves
    _tracer = provider.get_tracer(SERVICE)


def exchange(method: str, headers: Iterable[tuple[bytes, bytes]], request_id: str) -> Span:
    """The span of one HTTP exchange, below the caller's where the headers name one. `answered` ends it."""
    carrier = {CARRIED[name]: value.decode("latin-1") for name, value in headers if name in CARRIED}
    parent = W3C.extract(carrier, Context()) if carrier else Context()
    attributes = {"http.request.method": method, "marquee.request_id": request_id}
    return _tracer.start_span(method, context=parent, kind=SpanKind.SERVER, attributes=attributes)


def inside(span: Span) -> AbstractContextManager[object]:
    """What runs within is part of this exchange, which is over afterwards, answered or not."""
    return _NOTHING if span is INVALID_SPAN else _inside(span)


@contextmanager
def _inside(span: Span) -> Iterator[None]:
    with trace.use_span(span, record_exception=False, set_status_on_exception=False):
        try:
            yield
        finally:
            if span.is_recording():
                span.end()


def answered(span: Span, method: str, endpoint: str, status: int) -> None:
    """Ends the exchange's span, where its last byte has gone; the second time it does nothing."""
    if not span.is_recording():
        return
    span.update_name(f"{method} {endpoint}")
    span.set_attribute("http.route", endpoint)
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)
    span.end()


def traceparent(span: Span) -> str | None:
    """The span as the value of a W3C `traceparent` header; None where there is no trace."""
    context = span.get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def carried(query: Query) -> Query:
    """The query as it goes into a batch: with the current span, where that is recorded."""
    current = trace.get_current_span()
    return replace(query, traceparent=traceparent(current)) if current.is_recording() else query


@contextmanager
def computing(traceparents: Sequence[str | None]) -> Iterator[None]:
    """What this thread computes within is for these requests (`of_batch`)."""
    token = _computed.set(next(filter(None, traceparents), None))
    try:
        yield
    finally:
        _computed.reset(token)


def of_batch() -> str | None:
    """The W3C `traceparent` that a call made for the batch on this thread carries: that of its first traced
    request, as a call has one parent; None where no request is traced."""
    return _computed.get()


def stages(traceparents: Sequence[str | None], timings: Sequence[Timing], lost: Sequence[Loss]) -> None:
    """A span a stage for each traced request of a batch, after they ran on this machine.

    Args:
        traceparents: of each request; the parents of its spans.
        timings, lost: of the batch.
    """
    wall_ns = time.time_ns() - time.monotonic_ns()
    for row, traceparent in enumerate(traceparents):
        if traceparent is None:
            continue
        parent = W3C.extract({"traceparent": traceparent}, Context())
        reasons = {loss.stage: loss.reason for loss in lost if row in loss.rows}
        for timing in timings:
            if not timing.rows[row]:
                continue
            began_ns = wall_ns + int(timing.began * 1e9)
            span = _tracer.start_span(timing.stage, context=parent, start_time=began_ns)
            span.set_attribute("marquee.candidates.in", int(timing.candidates_in[row]))
            span.set_attribute("marquee.candidates.out", int(timing.candidates_out[row]))
            if timing.stage in reasons:
                _mark_lost(span, timing.stage, reasons[timing.stage])
            span.end(end_time=began_ns + int(timing.seconds * 1e9))


def _mark_lost(span: Span, stage: str, reason: str) -> None:
    span.add_event("lost", {"marquee.stage": stage, "error.type": reason})
    span.set_status(StatusCode.ERROR, reason)
