"""What surrounds every HTTP exchange: the request's id, its metrics, its span, its line in the log, and the
last resort for defects.

Pure ASGI, because Starlette's `BaseHTTPMiddleware` costs a task and two streams a request.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from contextlib import AbstractContextManager
from typing import Protocol

from opentelemetry.trace import Span
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.http.problems import REQUEST_ID, unexpected
from serving.observe import logs, tracing

log = logging.getLogger(__name__)

SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
"""Ids that are safe in a header, a log line, a URN and a key; a request with another one gets a new id."""

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that left before its answer: for the metrics, nobody is sent it."""


class RequestRecorder(Protocol):
    def request(self, endpoint: str, status: int, seconds: float) -> None:
        """One exchange ended; `endpoint` is the route's template, or "other"."""
        ...

    def in_flight(self) -> AbstractContextManager[object]:
        """One exchange, from its first byte to its last and what is done after it."""
        ...


class Envelope:
    """ASGI middleware, the outermost. The response carries `X-Request-Id`, and `traceparent` where there is a
    trace; time is taken until its last byte is handed over, so background work does not count."""

    def __init__(self, app: ASGIApp, recorder: RequestRecorder, logged: float = 0.0) -> None:
        """Args:
        logged: share of the requests that get a line in the log, 0 to 1.
        """
        self._app = app
        self._recorder = recorder
        self._logged = logged

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = scope[REQUEST_ID] = _request_id(scope)
        span = tracing.exchange(scope["method"], scope["headers"], request_id)
        with self._recorder.in_flight(), logs.answering(request_id), tracing.inside(span):
            await self._exchange(scope, receive, send, started, span)

    async def _exchange(self, scope: Scope, receive: Receive, send: Send, started: float, span: Span) -> None:
        request_id: str = scope[REQUEST_ID]
        labels = _labels(request_id, span)
        status = 0

        async def labelled(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *labels]
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self._record(scope, status, started, span)

        try:
            await self._app(scope, receive, labelled)
        except ClientDisconnect:
            self._record(scope, CLIENT_CLOSED_REQUEST, started, span)
        except Exception:
            log.exception("request %s failed", request_id)
            if status:
                raise  # too late for another answer: the server closes the connection
            await unexpected().response(scope)(scope, receive, labelled)

    def _record(self, scope: Scope, status: int, started: float, span: Span) -> None:
        endpoint = getattr(scope.get("route"), "path_format", "other")
        seconds = time.perf_counter() - started
        self._recorder.request(endpoint, status, seconds)
        logs.answered(scope["method"], endpoint, status, seconds, self._logged)
        tracing.answered(span, scope["method"], endpoint, status)


def _labels(request_id: str, span: Span) -> list[tuple[bytes, bytes]]:
    """The headers that every response carries."""
    labels = [(b"x-request-id", request_id.encode())]
    if traceparent := tracing.traceparent(span):
        labels.append((b"traceparent", traceparent.encode()))
    return labels


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and SANE_ID.fullmatch(value):
            return str(value, "ascii")
    return uuid.uuid4().hex
