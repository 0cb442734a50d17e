"""The pipeline in a bare Ray Serve application, under the settings Marquee runs with: its one route neither
reads the request nor writes the answer. What it takes beyond the pipeline, any interface on Ray Serve takes.
"""

from __future__ import annotations

import gc
import itertools
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI

from loadtests.bench.peers import ray_noop
from loadtests.bench.peers.host import PATH, Options, PeerRequest, host

if TYPE_CHECKING:
    from ray.serve.deployment import Application

ASKED = "BARE_BODIES"
"""The environment variable that names the file of requests, one JSON body a line, read beforehand."""


class Bare:
    """The ingress replica."""

    def __init__(self, bundle: str, redis_url: str, bodies: str) -> None:
        self._host = host(bundle, redis_url)
        gc.collect()
        gc.freeze()  # as Marquee's replicas do
        texts = Path(bodies).read_text(encoding="utf-8").splitlines()
        self._queries = itertools.cycle([self._host.query(PeerRequest.model_validate_json(t)) for t in texts])

    def __serve_build_asgi_app__(self) -> FastAPI:
        app, pipeline = FastAPI(), self._host.engine.recommend

        @app.post(PATH)
        async def run() -> dict[str, str]:
            in_time = time.monotonic() + self._host.config.budgets.request / 1e3
            await pipeline.run(replace(next(self._queries), deadline=in_time))
            return {"status": "ok"}

        @app.get("/readyz")
        async def ready() -> dict[str, str]:
            return {"status": "ready"}

        return app


def bare(options: Options) -> Application:
    from ray import serve

    ingress = ray_noop.deployment(serve.ingress()(Bare), options.workers)
    application: Application = ingress.bind(options.bundle, options.redis_url, os.environ[ASKED])
    return application


def main() -> None:
    options = Options.read("The pipeline in a bare Ray Serve application.")
    ray_noop.serve_until_told(options.port, lambda: bare(options))


if __name__ == "__main__":
    main()
