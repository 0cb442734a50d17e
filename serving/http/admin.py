"""`/v1/admin/traffic`: which bundles are in traffic, for who has the token. Mounted only where there is one.

Does not belong here: carrying a change out. Whoever owns the traffic (`marquee serve`) follows the file.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import FastAPI, Request, Response
from pydantic import ValidationError
from starlette.responses import JSONResponse

from serving.config import Traffic
from serving.http import problems
from serving.http.problems import Problem
from serving.traffic.table import State
from serving.traffic.traffic_file import Stale, TrafficFile, revision

PATH = "/v1/admin/traffic"


@dataclass(frozen=True, slots=True)
class Admin:
    """Attributes:
    token: what a caller must show.
    here: the traffic that this replica was given last; None before the first.
    state: URL → how far this replica is with that bundle.
    file: where the traffic is changed; None where another system owns it.
    """

    token: str
    here: Callable[[], Traffic | None]
    state: Callable[[str], State]
    file: TrafficFile | None

    async def get(self, request: Request) -> Response:
        self._check(request)
        return await self._answer(200)

    async def put(self, request: Request) -> Response:
        """202: the change is noted; each replica loads what is new and then swaps, which `GET` shows."""
        self._check(request)
        if self.file is None:
            raise Problem(409, "this server's traffic is set by its traffic object; use `marquee rollout`")
        try:
            traffic = Traffic.model_validate_json(await request.body())
        except ValidationError as error:
            raise problems.invalid_request(error) from None
        try:
            await asyncio.to_thread(self.file.write, traffic, _expected(request))
        except Stale as error:
            raise Problem(412, str(error), "stale-traffic") from None
        return await self._answer(202)

    def _check(self, request: Request) -> None:
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        known = secrets.compare_digest(shown.strip().encode(), self.token.encode())
        if scheme.lower() != "bearer" or not known:
            challenge = {"WWW-Authenticate": "Bearer"}
            raise Problem(401, "send Authorization: Bearer with the admin token", headers=challenge)

    async def _answer(self, status: int) -> Response:
        traffic = self.here() if self.file is None else await asyncio.to_thread(self.file.read)
        if traffic is None:
            raise Problem(503, "no traffic is set yet", headers={"Retry-After": "2"})
        tag = revision(traffic)
        body = {"traffic": [self._entry(entry.model_dump()) for entry in traffic.traffic], "revision": tag}
        return JSONResponse(body, status, headers={"ETag": f'"{tag}"', "Cache-Control": "no-store"})

    def _entry(self, entry: dict[str, object]) -> dict[str, object]:
        state = self.state(str(entry["bundle"]))
        return {**entry, "version": state.version, "state": state.state, "error": state.error}


def add_admin_routes(app: FastAPI, admin: Admin) -> None:
    """Left out of the interface's document, which is for client developers."""
    app.add_api_route(PATH, admin.get, methods=["GET"], include_in_schema=False)
    app.add_api_route(PATH, admin.put, methods=["PUT"], include_in_schema=False)


def _expected(request: Request) -> str | None:
    """The revision of If-Match; None without one, or with `*` (RFC 9110, section 13.1.1)."""
    given = request.headers.get("if-match", "*").strip()
    return None if given == "*" else given.strip('"')
