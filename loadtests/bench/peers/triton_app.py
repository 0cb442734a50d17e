"""FastAPI as in `fastapi_app`, with the ranker on a Triton Inference Server: `tritonclient` over HTTP, its
asynchronous client, one call a request. TRITON says where the server answers (host:port).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from tritonclient.http import InferInput, InferRequestedOutput
from tritonclient.http.aio import InferenceServerClient

from loadtests.bench.peers.host import PATH, Host, Options, PeerRequest, PeerResponse, host
from loadtests.bench.peers.triton_server import MODEL
from serving.types import CandidateBatch, Query

ADDRESS, BUNDLE = "TRITON", "PEER_BUNDLE"

CONNECTIONS = 100
"""Connections to Triton, tritonclient's default."""


class TritonScorer:
    """A `serving.stages.Scorer` whose scores Triton computes from the rows the hydrator made."""

    name = "triton"

    def __init__(self, client: InferenceServerClient) -> None:
        self._client = client

    def enabled(self, query: Query) -> bool:
        return len(query.history) > 0

    async def score(self, query: Query, batch: CandidateBatch) -> CandidateBatch:
        if batch.features is None:
            raise ValueError("the batch has no features; hydrate it first")
        rows = InferInput("rows", batch.features.shape, "FP32")
        rows.set_data_from_numpy(np.ascontiguousarray(batch.features, np.float32))
        answer = await self._client.infer(MODEL, [rows], outputs=[InferRequestedOutput("scores")])
        scores = answer.as_numpy("scores")
        if scores is None or scores.shape != (len(batch),):
            raise ValueError("Triton's answer has not one score a row")
        return batch.with_score(scores)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with InferenceServerClient(os.environ[ADDRESS], conn_limit=CONNECTIONS) as client:
        app.state.host = host(
            os.environ[BUNDLE],
            os.environ["REDIS_URL"],
            lambda _, stages: replace(stages, scorer=TritonScorer(client)),
        )
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
    options = Options.read("The pipeline behind FastAPI, its ranker on Triton.")
    os.environ[BUNDLE] = options.bundle
    uvicorn.run(
        "loadtests.bench.peers.triton_app:app",
        port=options.port,
        workers=options.workers,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
