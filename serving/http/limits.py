"""Refuses what a replica should not take on: more requests at a time than it can answer soon, and bodies
that are too large, before they are held in memory.

FastAPI's own `max_body_size` is not used: where the declared length is too large and no route reads the
body, it answers in plain text.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import Unavailable
from serving.http.problems import Problem, unavailable

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Answered however busy the replica is: a probe that is turned away gets a working replica killed."""

RETRY_AFTER_S = 1.0
"""Seconds a client turned away is asked to wait; what is in flight is answered long before."""


class InFlightLimit:
    """ASGI middleware: 503 at once for a request that finds `limit` others being answered. A queue would
    only make everybody late."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].removeprefix(scope.get("root_path", "")) in PROBES:
            await self._app(scope, receive, send)
            return
        if self._in_flight >= self._limit:
            busy = Unavailable(f"{self._limit} requests are being answered already", RETRY_AFTER_S)
            await unavailable(busy).response(scope)(scope, receive, send)
            return
        self._in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_flight -= 1


class BodyLimit:
    """ASGI middleware: 413 for a body over `limit` bytes, whether its length is declared or only found out
    while it streams in. Belongs outside the exception handlers for the first, and relies on them for the
    second."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _declared(scope) > self._limit:
            await self._too_large().response(scope)(scope, receive, send)
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > self._limit:
                    raise self._too_large()
            return message

        await self._app(scope, counted, send)

    def _too_large(self) -> Problem:
        return Problem(413, f"the body is larger than {self._limit} bytes")


def _declared(scope: Scope) -> int:
    """Content-Length, or 0 where there is none to rely on; the bytes are counted in any case."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            # Longer than any length that fits in memory; int() refuses thousands of digits.
            return int(value[:20])
    return 0
