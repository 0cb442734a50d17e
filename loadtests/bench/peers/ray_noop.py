"""A Ray Serve application that does nothing, under the settings Marquee runs with: the unit in which hops and
HTTP overhead are counted. An ASGI ingress like Marquee's, and one FastAPI route with a small constant answer.

Two more routes do the least that two things Marquee does can cost, and so show what limits it: asking two
deployments one after the other, as where retrieval and ranking run apart, and validating a request before an
answer of the usual size, as where the answer is kept.
"""

from __future__ import annotations

import logging
import secrets
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response

from loadtests.bench.peers.host import PATH, Options, patient
from serving.http.schemas import RecommendationRequest, bounds
from serving.local.guard import RUN_ID, Guard
from serving.local.ports import free_block
from serving.local.ray_settings import ANSWER_S, LOGICAL_CPUS, QUIET, environment, ray_environment
from training.ray_session import own_ray

if TYPE_CHECKING:
    from ray.serve.deployment import Application
    from ray.serve.handle import DeploymentHandle

HOPS, VALIDATED = "/hops", "/validated"

CANDIDATES = bytes(8_000)
"""What crosses: about what 500 candidates take, as ids, sources and scores."""

ANSWER = b'{"items": "%s"}' % (b"a" * 2_135)
"""JSON of about the size of ten plain recommendations."""


class Echo:
    """A deployment behind the ingress."""

    async def take(self, candidates: bytes) -> bytes:
        return candidates


class Noop:
    """The ingress replica."""

    def __init__(self, first: DeploymentHandle[Any], second: DeploymentHandle[Any]) -> None:
        self._first, self._second = (
            handle.options(request_serialization="pickle", response_serialization="pickle").take.remote
            for handle in (first, second)
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        app, within = FastAPI(), bounds(patient("none"))

        @app.post(PATH)
        async def nothing() -> dict[str, str]:
            return {"status": "ok"}

        @app.post(HOPS)
        async def hops() -> dict[str, int]:
            return {"bytes": len(await self._second(await self._first(CANDIDATES)))}

        @app.post(VALIDATED)
        async def validated(request: Request) -> Response:
            RecommendationRequest.parse(await request.body(), within)
            return Response(ANSWER, media_type="application/json")

        @app.get("/readyz")
        async def ready() -> dict[str, str]:
            return {"status": "ready"}

        return app


@contextmanager
def running(port: int, bind: Callable[[], Application]) -> Iterator[None]:
    """An application as `serving.local.runtime.running` runs ours, without a bundle and without Redis.

    Args:
        bind: makes it, once Serve has its settings, which it reads as it is imported.
    """
    with ExitStack() as stack:
        folder, tag = Path(tempfile.mkdtemp(prefix="mq", dir="/tmp")), secrets.token_hex(8)
        stack.callback(Guard(tag, folder).release)
        stack.enter_context(environment({RUN_ID: tag, **ray_environment(folder, free_block())}))
        stack.enter_context(own_ray(folder / "r", num_cpus=LOGICAL_CPUS))
        _deploy(port, bind)
        yield


def _deploy(port: int, bind: Callable[[], Application]) -> None:
    from ray import serve
    from ray.serve.config import HTTPOptions

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(
        proxy_location="HeadOnly",
        http_options=HTTPOptions(host="127.0.0.1", port=port, request_timeout_s=ANSWER_S),
        logging_config=QUIET,
    )
    serve.run(bind(), route_prefix="/", logging_config=QUIET)


def deployment(shell: type, replicas: int) -> Any:
    """Of Marquee's size, as many times, whatever is asked of it."""
    from ray import serve

    from serving.app import options

    sizes = options(patient("none").deployments.ingress)
    del sizes["autoscaling_config"]
    sizes["ray_actor_options"] = {"num_cpus": LOGICAL_CPUS / 4 / replicas}
    return serve.deployment(**sizes, num_replicas=replicas)(shell)


def noop(replicas: int) -> Application:
    from ray import serve

    echo = deployment(Echo, 1)
    ingress = deployment(serve.ingress()(Noop), replicas)
    application: Application = ingress.bind(
        echo.options(name="First").bind(), echo.options(name="Second").bind()
    )
    return application


def serve_until_told(port: int, bind: Callable[[], Application]) -> None:
    """Runs the application until SIGINT or SIGTERM."""
    stop = threading.Event()
    for which in (signal.SIGINT, signal.SIGTERM):
        signal.signal(which, lambda *_: stop.set())
    with running(port, bind):
        stop.wait()


def main() -> None:
    options = Options.read("A Ray Serve application that does nothing.")
    serve_until_told(options.port, lambda: noop(options.workers))


if __name__ == "__main__":
    main()
