"""LitServe, as its documentation has it for work that waits: an asynchronous LitAPI, pydantic models in and
out, one API process and as many workers as asked for, with its faster queue.

Needs `pip install litserve`.
"""

import litserve

from loadtests.bench.peers.host import PATH, Host, Options, PeerRequest, PeerResponse, host
from serving.types import Query, Recommendation


class Recommend(litserve.LitAPI):  # type: ignore[misc] # it has no types
    def __init__(self, bundle: str, redis_url: str) -> None:
        super().__init__(api_path=PATH, enable_async=True)
        self._bundle, self._redis_url = bundle, redis_url
        self._host: Host

    def setup(self, device: str) -> None:
        self._host = host(self._bundle, self._redis_url)

    # LitServe reads the two annotations at run time, so they must be classes and not text.
    async def decode_request(self, request: PeerRequest) -> Query:
        return self._host.query(request)

    async def predict(self, x: Query) -> Recommendation:
        return await self._host.engine.recommend.run(x)

    async def encode_response(self, output: Recommendation) -> PeerResponse:
        return self._host.response(output)


def serve(api: litserve.LitAPI, options: Options) -> None:
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=options.workers,
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


def main() -> None:
    options = Options.read("The pipeline behind LitServe.")
    serve(Recommend(options.bundle, options.redis_url), options)


if __name__ == "__main__":
    main()
