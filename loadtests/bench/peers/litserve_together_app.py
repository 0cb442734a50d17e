"""LitServe with its own batching: what waits while its worker computes goes there as one list, which the
pipeline answers with Marquee's micro-batching.

Needs `pip install litserve`.
"""

import asyncio
from collections.abc import Sequence

import litserve

from loadtests.bench.peers.host import PATH, Host, Options, PeerRequest, PeerResponse, host
from loadtests.bench.peers.litserve_app import serve
from serving.microbatch import LARGEST
from serving.types import Query, Recommendation


class RecommendTogether(litserve.LitAPI):  # type: ignore[misc] # it has no types
    """LitServe gives lists to a synchronous `predict` alone, so the pipeline has an event loop of its own."""

    def __init__(self, bundle: str, redis_url: str) -> None:
        super().__init__(api_path=PATH, max_batch_size=LARGEST)
        self._bundle, self._redis_url = bundle, redis_url
        self._host: Host
        self._runner: asyncio.Runner

    def setup(self, device: str) -> None:
        self._host = host(self._bundle, self._redis_url, together=True)
        self._runner = asyncio.Runner()

    def decode_request(self, request: PeerRequest) -> Query:
        return self._host.query(request)

    def predict(self, x: Sequence[Query]) -> list[Recommendation]:
        return self._runner.run(self._answers(x))

    async def _answers(self, queries: Sequence[Query]) -> list[Recommendation]:
        return await asyncio.gather(*(self._host.engine.recommend.run(query) for query in queries))

    def encode_response(self, output: Recommendation) -> PeerResponse:
        return self._host.response(output)


def main() -> None:
    options = Options.read("The pipeline behind LitServe, many requests as one.")
    serve(RecommendTogether(options.bundle, options.redis_url), options)


if __name__ == "__main__":
    main()
