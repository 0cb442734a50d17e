"""BentoML, as its documentation has it for work that waits: an asynchronous API of a service, pydantic models
in and out, access log off as in every arm.

Runs in an environment of its own (`requirements-bentoml.txt`): BentoML's pins contradict ours.
"""

from __future__ import annotations

import os
import sys

import bentoml

from loadtests.bench.peers.host import PATH, Options, PeerRequest, PeerResponse, host

BUNDLE = "PEER_BUNDLE"


@bentoml.service(name="recommend", workers=1, logging={"access": {"enabled": False}})
class Recommend:
    def __init__(self) -> None:
        self._host = host(os.environ[BUNDLE], os.environ["REDIS_URL"])

    @bentoml.api(route=PATH)  # type: ignore[untyped-decorator]  # it has no types
    async def recommend(self, wanted: PeerRequest, /) -> PeerResponse:
        return await self._host.answer(wanted)


def main() -> None:
    options = Options.read("The pipeline behind BentoML.")
    os.environ |= {BUNDLE: options.bundle, "BENTOML_DO_NOT_TRACK": "True"}
    command = ["bentoml", "serve", "loadtests.bench.peers.bentoml_app:Recommend"]
    where = ["--host", "127.0.0.1", "--port", str(options.port)]
    os.execv(sys.executable, [sys.executable, "-m", *command, *where])


if __name__ == "__main__":
    main()
