"""The pipeline without any server: one request after another in a process of its own, as a server's event
loop would call it. Each line of its input says how many seconds to run, and is answered with a line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop

from loadtests.bench.peers.host import Host, PeerRequest, host


async def measure(hosted: Host, requests: Iterator[PeerRequest], seconds: float) -> dict[str, float]:
    """Only `pipeline.run` is timed: neither reading the request nor writing the answer."""
    taken: list[float] = []
    cpu, end = time.process_time(), time.perf_counter() + seconds
    while not taken or time.perf_counter() < end:
        query = hosted.query(next(requests))
        started = time.perf_counter()
        await hosted.engine.recommend.run(query)
        taken.append(time.perf_counter() - started)
    cpu = time.process_time() - cpu
    return {
        "p50_ms": statistics.median(taken) * 1e3,
        "cpu_ms": cpu / len(taken) * 1e3,
        "requests": len(taken),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="The pipeline in this process.")
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--bodies", type=Path, required=True, help="JSON bodies, one a line")
    given = parser.parse_args()
    hosted = host(given.bundle, os.environ["REDIS_URL"])
    texts = given.bodies.read_text(encoding="utf-8").splitlines()
    requests = itertools.cycle([PeerRequest.model_validate_json(text) for text in texts])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure(hosted, requests, 0.5))  # connections are opened, code is warm
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            print(json.dumps(runner.run(measure(hosted, requests, float(line)))), flush=True)
        runner.run(hosted.store.close())


if __name__ == "__main__":
    main()
