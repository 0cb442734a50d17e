"""Replicas that want a GPU follow the load, and a node that dies takes almost no request with it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from features.embedded import EmbeddedRedis
from serving.local.ports import free_block
from tests.e2e.conftest import ANSWER_S, ROOT, hosted

pytestmark = pytest.mark.slow

SCALED_S = 120.0
"""Seconds for a replica to come or go, most of which it takes to start."""

PEOPLE, RUN_S, KILL_AFTER_S = 100, 40, 15
"""People of the load test, about 60 requests a second; how long it runs, and when the node is killed."""


MAX_FAILED = 0.01
"""Share of the requests that may fail once: what the node has in flight when it dies, more on a busy machine.
1 of 2,017 was seen where it did nothing else, 7 of 1,960 beside other tests."""


@dataclass
class Nodes:
    url: str
    process: subprocess.Popen[str]

    def say(self, command: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        lines = iter(self.process.stdout.readline, "")
        answer: dict[str, Any] = json.loads(next(line for line in lines if line.startswith("{")))
        return answer


@pytest.fixture(scope="module")
def nodes(
    bundle_dir: Path, home: Path, redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nodes]:
    script = Path(__file__).with_name("nodes.py")
    arguments = (bundle_dir, home, redis.url, free_block()[0])
    with hosted(script, arguments, tmp_path_factory.mktemp("nodes")) as (said, process):
        yield Nodes(said["url"], process)


def test_a_group_scales_to_its_most_under_load_and_back(nodes: Nodes, user_ids: Path) -> None:
    stop = threading.Event()
    known = user_ids.read_text(encoding="utf-8").split()[0]  # nobody else's items are ranked

    def ask() -> None:
        with httpx.Client(base_url=nodes.url, timeout=ANSWER_S, trust_env=False) as client:
            while not stop.is_set():
                client.post("/v1/recommendations", json={"user_id": known})

    assert nodes.say("replicas") == {"accelerated": 1}
    with ThreadPoolExecutor(12) as people:
        for _ in range(12):
            people.submit(ask)
        try:
            until_running(nodes, 2)
        finally:
            stop.set()
    until_running(nodes, 1)


def until_running(nodes: Nodes, wanted: int) -> None:
    end = time.monotonic() + SCALED_S
    while (found := nodes.say("replicas")["accelerated"]) != wanted:
        assert time.monotonic() < end, f"{found} replicas, not {wanted}, after {SCALED_S:g} s"
        time.sleep(0.5)


def test_a_node_that_dies_costs_almost_nothing_and_a_retry_makes_that_nothing(
    nodes: Nodes, user_ids: Path, tmp_path: Path
) -> None:
    assert nodes.say("spread") == {"replicas": 2, "nodes": 2}
    report = tmp_path / "report.json"
    command = [
        *(sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "--only-summary"),
        *("--host", nodes.url, "--users", str(PEOPLE), "--spawn-rate", str(PEOPLE)),
        *("--run-time", f"{RUN_S}s", "--user-ids", str(user_ids), "--report", str(report)),
        *("--max-failed", str(MAX_FAILED), "--max-p99-ms", "10000", "--max-degraded", "1"),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as locust:
        time.sleep(KILL_AFTER_S)
        assert locust.poll() is None
        nodes.say("kill")
        said, _ = locust.communicate(timeout=RUN_S + 60)
    found = json.loads(report.read_text(encoding="utf-8"))
    print({name: found[name] for name in ("asked", "failed", "lost", "degraded")})
    assert found["asked"] > 500
    assert found["missed"] == [], said
