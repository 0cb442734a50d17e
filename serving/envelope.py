"""What surrounds every HTTP exchange: the request's id, its metrics, and the last resort for defects.

Pure ASGI, because Starlette's `BaseHTTPMiddleware` costs a task and two streams a request.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Protocol

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.problems import REQUEST_ID, unexpected

log = logging.getLogger(__name__)

SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
"""Ids that are safe in a header, a log line, a URN and a key; a request with another one gets a new id."""

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that left before its answer: for the metrics, nobody is sent it."""


class RequestRecorder(Protocol):
    def request(self, endpoint: str, status: int, seconds: float) -> None:
        """One exchange ended; `endpoint` is the route's template, or "other"."""
        ...


class Envelope:
    """ASGI middleware, the outermost. The response carries `X-Request-Id`; time is taken until its last
    byte is handed over, so background work does not count."""

    def __init__(self, app: ASGIApp, recorder: RequestRecorder) -> None:
        self._app = app
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        scope[REQUEST_ID] = request_id
        status = 0

        async def labelled(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self._record(scope, status, started)

        try:
            await self._app(scope, receive, labelled)
        except ClientDisconnect:
            self._record(scope, CLIENT_CLOSED_REQUEST, started)
        except Exception:
            log.exception("request %s failed", request_id)
            if status:
                raise  # too late for another answer: the server closes the connection
            await unexpected().response(scope)(scope, receive, labelled)

    def _record(self, scope: Scope, status: int, started: float) -> None:
        endpoint = getattr(scope.get("route"), "path_format", "other")
        self._recorder.request(endpoint, status, time.perf_counter() - started)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and SANE_ID.fullmatch(value):
            return str(value, "ascii")
    return uuid.uuid4().hex
