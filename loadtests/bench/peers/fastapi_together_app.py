"""FastAPI as in `fastapi_app`, with Marquee's own coalesced reads and micro-batching put around the pipeline
by hand: what of Marquee's throughput they are, and what is left to its server.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from loadtests.bench.peers.fastapi_app import BUNDLE, application, run
from loadtests.bench.peers.host import Host, host


@asynccontextmanager
async def gathering() -> AsyncIterator[Host]:
    yield host(os.environ[BUNDLE], os.environ["REDIS_URL"], together=True)


app = application(gathering)


if __name__ == "__main__":
    run("loadtests.bench.peers.fastapi_together_app", "The pipeline behind FastAPI, many requests as one.")
