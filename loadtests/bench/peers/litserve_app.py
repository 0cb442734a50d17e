"""LitServe with its own batching, as its documentation has it: pydantic models in and out, one API process
and one worker, with its faster queue. What waits while its worker computes goes there as one list, at its
default of no wait, and the pipeline answers it as one batch.

Needs `pip install litserve`.
"""

import asyncio
from collections.abc import Sequence

import litserve

from loadtests.bench.peers.host import (
    PATH,
    Host,
    Options,
    PeerRequest,
    PeerResponse,
    batched_host,
    patient,
)  # fmt: skip
from serving.types import Query, Recommendation


class Recommend(litserve.LitAPI):  # type: ignore[misc] # it has no types
    """LitServe gives lists to a synchronous `predict` alone, so the pipeline has an event loop of its own."""

    def __init__(self, bundle: str, redis_url: str) -> None:
        super().__init__(api_path=PATH, max_batch_size=patient(bundle).batching.max_batch)
        self._bundle, self._redis_url = bundle, redis_url
        self._host: Host
        self._runner: asyncio.Runner

    def setup(self, device: str) -> None:
        self._host = batched_host(self._bundle, self._redis_url, threads=False)
        self._runner = asyncio.Runner()

    # LitServe reads the two annotations at run time, so they must be classes and not text.
    def decode_request(self, request: PeerRequest) -> Query:
        return self._host.query(request)

    def predict(self, x: Sequence[Query]) -> list[Recommendation]:
        return self._runner.run(self._answers(x))

    async def _answers(self, queries: Sequence[Query]) -> list[Recommendation]:
        return await asyncio.gather(*(self._host.engine.recommend.run(query) for query in queries))

    def encode_response(self, output: Recommendation) -> PeerResponse:
        return self._host.response(output)


def main() -> None:
    options = Options.read("The pipeline behind LitServe.")
    server = litserve.LitServer(
        Recommend(options.bundle, options.redis_url),
        accelerator="cpu",
        workers_per_device=1,
        healthcheck_path="/readyz",
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=options.port,
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
