"""Plain FastAPI on uvicorn, as its documentation has it: pydantic models in and out, an async endpoint,
models loaded in the lifespan; uvloop and httptools, access log off as in every arm.

Workers are processes, so `app` reads its settings from the environment.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request

from loadtests.bench.peers.host import PATH, Host, Options, PeerRequest, PeerResponse, host

BUNDLE = "PEER_BUNDLE"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.host = host(os.environ[BUNDLE], os.environ["REDIS_URL"])
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


def main() -> None:
    options = Options.read("The pipeline behind FastAPI.")
    os.environ[BUNDLE] = options.bundle
    uvicorn.run(
        "loadtests.bench.peers.fastapi_app:app",
        port=options.port,
        workers=options.workers,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
