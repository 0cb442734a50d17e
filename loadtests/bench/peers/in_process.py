"""The pipeline without any server, in a process of its own, as a server's event loop would call it. Each line
of its input says how (`Calls`), and is answered with a line of JSON.
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

from loadtests.bench.peers.calls import Calls
from loadtests.bench.peers.host import Host, PeerRequest, host


async def measure(hosted: Host, requests: Iterator[PeerRequest], calls: Calls) -> dict[str, float]:
    """Only `pipeline.run` is timed: neither reading the request nor writing the answer, nor the pause."""
    taken: list[float] = []
    cpu, end = time.process_time(), time.perf_counter() + calls.seconds

    async def one_after_another() -> None:
        while time.perf_counter() < end:
            query = hosted.query(next(requests))
            started = time.perf_counter()
            await hosted.engine.recommend.run(query)
            taken.append(time.perf_counter() - started)
            if calls.pause_s:
                await asyncio.sleep(calls.pause_s)

    await asyncio.gather(*(one_after_another() for _ in range(calls.at_once)))
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
    url = os.environ["REDIS_URL"]
    hosts = {together: host(given.bundle, url, together=together) for together in (False, True)}
    texts = given.bodies.read_text(encoding="utf-8").splitlines()
    requests = itertools.cycle([PeerRequest.model_validate_json(text) for text in texts])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for hosted in hosts.values():  # connections are opened, code is warm
            runner.run(measure(hosted, requests, Calls(0.5, at_once=2)))
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            calls = Calls(**json.loads(line))
            print(json.dumps(runner.run(measure(hosts[calls.together], requests, calls))), flush=True)
        for hosted in hosts.values():
            runner.run(hosted.store.close())


if __name__ == "__main__":
    main()
