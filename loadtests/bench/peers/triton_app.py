"""FastAPI as in `fastapi_app`, with the ranker on a Triton Inference Server: `tritonclient` over HTTP, its
asynchronous client, one call a request. TRITON says where the server answers (host:port).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
from tritonclient.http import InferInput, InferRequestedOutput
from tritonclient.http.aio import InferenceServerClient

from loadtests.bench.peers.fastapi_app import BUNDLE, application, run
from loadtests.bench.peers.host import Host, host
from loadtests.bench.peers.triton_server import MODEL
from serving.types import CandidateBatch, Query

ADDRESS = "TRITON"

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
async def with_triton() -> AsyncIterator[Host]:
    async with InferenceServerClient(os.environ[ADDRESS], conn_limit=CONNECTIONS) as client:
        yield host(
            os.environ[BUNDLE],
            os.environ["REDIS_URL"],
            lambda _, stages: replace(stages, scorer=TritonScorer(client)),
        )


app = application(with_triton)


if __name__ == "__main__":
    run("loadtests.bench.peers.triton_app", "The pipeline behind FastAPI, its ranker on Triton.")
