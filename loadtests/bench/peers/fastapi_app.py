"""FastAPI on uvicorn, as its documentation has it: pydantic models in and out, an async endpoint, models
loaded in the lifespan; uvloop and httptools, access log off as in every arm.

Where the environment sets PEER_BATCHED, Marquee's batching is put in by hand, and what differs from Marquee
is the server alone.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request

from loadtests.bench.peers.host import PATH, Host, Options, PeerRequest, PeerResponse, batched_host, host

BATCHED = "PEER_BATCHED"


def application(options: Options) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        make = batched_host if BATCHED in os.environ else host
        app.state.host = make(options.bundle, options.redis_url)
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


def main() -> None:
    options = Options.read("The pipeline behind FastAPI.")
    uvicorn.run(
        application(options),
        port=options.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
