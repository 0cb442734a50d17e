"""Plain FastAPI on uvicorn, as its documentation has it: pydantic models in and out, an async endpoint,
models loaded in the lifespan; uvloop and httptools, access log off as in every arm.

Workers are processes, so `app` reads its settings from the environment.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request

from loadtests.bench.peers.host import PATH, Host, Options, PeerRequest, PeerResponse, host

BUNDLE = "PEER_BUNDLE"


def application(hosting: Callable[[], AbstractAsyncContextManager[Host]]) -> FastAPI:
    """Answers with what `hosting` holds open while the application runs."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with hosting() as app.state.host:
            yield
            await app.state.host.store.close()

    app = FastAPI(lifespan=lifespan)

    @app.post(PATH)
    async def recommend(wanted: PeerRequest, request: Request) -> PeerResponse:
        hosted: Host = request.app.state.host
        return await hosted.answer(wanted)

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    return app


@asynccontextmanager
async def fused() -> AsyncIterator[Host]:
    yield host(os.environ[BUNDLE], os.environ["REDIS_URL"])


app = application(fused)


def run(module: str, summary: str) -> None:
    """Serves the `app` of a module as the command line says."""
    options = Options.read(summary)
    os.environ[BUNDLE] = options.bundle
    uvicorn.run(
        f"{module}:app",
        port=options.port,
        workers=options.workers,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    run("loadtests.bench.peers.fastapi_app", "The pipeline behind FastAPI.")
