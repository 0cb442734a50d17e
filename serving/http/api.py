"""The HTTP interface over the bundles in traffic. Read `_Api._answer`: that is a request.

A route reads the body's bytes once, the pipeline answers, and the answer is serialised once; FastAPI routes
and documents, and neither parses nor validates. Does not belong here: Ray, wire formats, how errors look.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.responses import JSONResponse

from serving.config import ServeConfig
from serving.engine import Engine
from serving.http import openapi, problems, wire
from serving.http.envelope import Envelope
from serving.http.limits import BodyLimit, InFlightLimit
from serving.http.problems import REQUEST_ID, Problem
from serving.http.schemas import (
    Bounds,
    RankRequest,
    RecommendationRequest,
    RecommendationResponse,
    SimilarRequest,
    SimilarResponse,
    bounds,
)
from serving.observe.prometheus import CONTENT_TYPE, PrometheusRecorder
from serving.traffic.live import Encode, Live
from serving.traffic.shadow import Kind
from serving.traffic.shadow import Request as Asked
from serving.types import Query

API_VERSION = "1.0.0"
"""Of the interface, not of the program: its major number is the v1 of the paths."""

R = TypeVar("R", RecommendationRequest, RankRequest, SimilarRequest)


def create_api(
    live: Live,
    config: ServeConfig,
    metrics: PrometheusRecorder,
    *,
    exposition: Callable[[], bytes] | None = None,
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """The application.

    Args:
        live: answers with the bundles in traffic.
        metrics: counts exchanges; the engine's pipelines report to it too.
        exposition: what `/metrics` answers, in a worker thread; the recorder's own where not given.
        clock: unix seconds, for `Query.now`.
    """
    within = bounds(config)
    api = _Api(live, config, within, exposition or metrics.exposition, clock)
    app = FastAPI(
        title="Marquee",
        version=API_VERSION,
        summary="Recommendations, similar items and ranking, with reasons.",
        redirect_slashes=False,
        openapi_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
        middleware=[
            Middleware(Envelope, recorder=metrics, logged=config.logs.access),
            Middleware(InFlightLimit, limit=config.limits.in_flight),
            Middleware(BodyLimit, limit=config.limits.body_bytes),
        ],
        exception_handlers=problems.HANDLERS,
    )
    app.router.route_class = _RawRoute
    _recommendation_routes(app, api)
    _operation_routes(app, api)
    app.openapi_url = "/openapi.json"
    app.setup()  # after our routes: routing looks at one after the other, and nobody asks often for documents
    app.openapi = cache(partial(openapi.document, app, within))  # type: ignore[method-assign]  # FastAPI documents it
    return app


class _RawRoute(APIRoute):
    """A documented route whose endpoint is given the request and gives the response: without FastAPI's
    dependency solving, which took 30 µs of a 66 µs no-op here."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return handler


@dataclass(frozen=True, slots=True)
class _Api:
    live: Live
    config: ServeConfig
    bounds: Bounds
    exposition: Callable[[], bytes]
    clock: Callable[[], float]

    async def recommend(self, request: Request) -> Response:
        wanted = await self._read(request, RecommendationRequest)
        arrival = self._arrival(request, wanted.timeout_ms)

        def query(engine: Engine) -> Query:
            return wire.recommendation_query(
                wanted, engine.catalogue, engine.feedback, self.config.diversity, arrival
            )

        return await self._answer("recommend", wanted.user_id, arrival, query, wire.recommendation_body)

    async def rank(self, request: Request) -> Response:
        wanted = await self._read(request, RankRequest)
        arrival = self._arrival(request, wanted.timeout_ms)

        def query(engine: Engine) -> Query:
            return wire.rank_query(wanted, engine.catalogue, engine.feedback, arrival)

        return await self._answer("rank", wanted.user_id, arrival, query, wire.recommendation_body)

    async def similar(self, request: Request) -> Response:
        wanted = await self._read(request, SimilarRequest, empty=b"{}")
        arrival = self._arrival(request, wanted.timeout_ms)

        def query(engine: Engine) -> Query:
            return wire.similar_query(wanted, request.path_params["item_id"], engine.catalogue, arrival)

        return await self._answer("similar", None, arrival, query, wire.similar_body)

    async def _answer(
        self,
        kind: Kind,
        user_id: str | None,
        arrival: wire.Arrival,
        query: Callable[[Engine], Query],
        encode: Encode,
    ) -> Response:
        """Who has no id has no bundle to stay with, and is spread by request."""
        asked = Asked(kind, arrival.request_id if user_id is None else user_id, query)
        body, afterwards = await self.live.answer(asked, encode)
        background = None if afterwards is None else BackgroundTask(afterwards)
        return Response(body, media_type="application/json", background=background)

    async def healthy(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        engine = self.live.production
        return JSONResponse({"status": "ready", "bundle": engine.bundle, "version": engine.version})

    async def metrics(self, _: Request) -> Response:
        return Response(await run_in_threadpool(self.exposition), media_type=CONTENT_TYPE)

    async def _read(self, request: Request, model: type[R], empty: bytes = b"") -> R:
        """The request's body, validated; an empty one is read as `empty`."""
        body = await request.body()
        if body:
            _check_media_type(request)
        try:
            return model.parse(body or empty, self.bounds)
        except ValidationError as error:
            raise problems.invalid_request(error) from None

    def _arrival(self, request: Request, timeout_ms: int | None) -> wire.Arrival:
        budget_ms = self.config.budgets.request if timeout_ms is None else timeout_ms
        return wire.Arrival(request.scope[REQUEST_ID], self.clock(), time.monotonic() + budget_ms / 1e3)


def _check_media_type(request: Request) -> None:
    headers: dict[bytes, bytes] = dict(request.scope["headers"])
    media_type, _, _ = headers.get(b"content-type", b"").partition(b";")
    if media_type.strip().lower() != b"application/json":
        raise Problem(415, "send the body with Content-Type: application/json")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Problem(415, "send the body without a Content-Encoding")


def _recommendation_routes(app: FastAPI, api: _Api) -> None:
    app.add_api_route(
        "/v1/recommendations",
        api.recommend,
        methods=["POST"],
        summary="Recommend items to a user or a session",
        responses={200: {"model": RecommendationResponse}, **openapi.problems(400, 413, 415, 422, 503)},
        openapi_extra=openapi.body_of(RecommendationRequest, openapi.RECOMMENDATION_EXAMPLES),
    )
    app.add_api_route(
        "/v1/rank",
        api.rank,
        methods=["POST"],
        summary="Put given items in the order a user or a session would want them",
        responses={200: {"model": RecommendationResponse}, **openapi.problems(400, 404, 413, 415, 422, 503)},
        openapi_extra=openapi.body_of(RankRequest, openapi.RANK_EXAMPLES),
    )
    app.add_api_route(
        "/v1/items/{item_id:path}/similar",
        api.similar,
        methods=["POST"],
        summary="Items similar to an item",
        responses={200: {"model": SimilarResponse}, **openapi.problems(400, 404, 413, 415, 422, 503)},
        openapi_extra={
            **openapi.path_parameter("item_id", "any id of the catalogue, percent-encoded"),
            **openapi.body_of(SimilarRequest, openapi.SIMILAR_EXAMPLES, required=False),
        },
    )


def _operation_routes(app: FastAPI, api: _Api) -> None:
    app.add_api_route("/healthz", api.healthy, summary="The process is alive")
    app.add_api_route(
        "/readyz", api.ready, summary="A bundle is loaded and answers", responses=openapi.problems(503)
    )
    text = {"description": "Prometheus text format", "content": {"text/plain": {}}}
    app.add_api_route("/metrics", api.metrics, summary="Metrics", responses={200: text})
