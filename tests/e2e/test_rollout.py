"""Two rollouts on a running server, with people on it: one bundle that fails now and then, and a good one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from features.embedded import EmbeddedRedis
from serving.local.ports import free_block
from serving.traffic.table import BUCKETS, bucket
from tests.e2e.conftest import ANSWER_S, ROOT, hosted
from tests.e2e.faulty import DEFECT, FAULTY
from training.bundle import read_bundle, write_bundle

PEOPLE, RUN_S = 120, 240
"""People of a load test, about 70 requests a second, and its longest time; it is stopped when all is seen."""

FIRST, WINDOW_S = 20, 15
"""Percent of the first step, and seconds of an evaluation window: some 200 answers of the canary in one, of
which seven fail."""

STEPS = f"{FIRST}:{WINDOW_S}s,50:{WINDOW_S}s"

ROLLOUT_S = 150.0
"""Seconds a rollout may take: its steps, loading the bundle, and waiting for enough answers."""

GUARDRAILS = (
    *("--guardrail", "minimum_requests=60"),  # of both; the default asks for a busier service or more time
    *("--guardrail", "p99_ratio=50"),  # a machine that also runs this test says nothing by its latencies
    *("--guardrail", "degraded_rate=1"),  # nor by stages that missed their budgets
    *("--guardrail", "coverage_drop=1"),  # sixty users see less of a catalogue than two hundred and forty
    *("--guardrail", "psi=10"),  # and their scores differ
)


@dataclass(frozen=True)
class Server:
    """Attributes:
    console: what it wrote to standard error.
    """

    url: str
    home: Path
    console: Path

    def traffic(self) -> list[tuple[str, int]]:
        token = (self.home / "admin-token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        answer = httpx.get(f"{self.url}/v1/admin/traffic", headers=headers, timeout=ANSWER_S, trust_env=False)
        return [(Path(each["bundle"]).name, each["weight"]) for each in answer.json()["traffic"]]

    def canary(self, bundle: Path) -> subprocess.CompletedProcess[str]:
        command = [
            *(sys.executable, "-m", "marquee", "rollout", "canary", str(bundle), "--url", self.url),
            *("--home", str(self.home), "--steps", STEPS, "--window", f"{WINDOW_S}s", *GUARDRAILS),
        ]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=ROLLOUT_S)

    def errors(self, version: str) -> float:
        exposition = httpx.get(f"{self.url}/metrics", timeout=ANSWER_S, trust_env=False).text
        start = f'marquee_bundle_requests_total{{bundle="{version}",outcome="error"}} '
        return sum(float(line[len(start) :]) for line in exposition.splitlines() if line.startswith(start))


@pytest.fixture(scope="module")
def server(
    bundle_dir: Path, home: Path, redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    script = Path(__file__).with_name("faulty.py")
    arguments = (bundle_dir, home, redis.url, free_block()[0])
    folder = tmp_path_factory.mktemp("rollout")
    with hosted(script, arguments, folder) as (said, _):
        yield Server(said["url"], home, folder / "log")


def copy_of(bundle_dir: Path, folder: Path, card: str) -> Path:
    """The same models under another version."""
    bundle = read_bundle(str(bundle_dir))
    return write_bundle(
        folder,
        schema=bundle.schema,
        catalogue=bundle.catalogue,
        components=bundle.components,
        declaration=bundle.declaration,
        model_card=card,
        manifest=bundle.manifest,
    )


@contextmanager
def people(url: str, users: Path, report: Path) -> Iterator[None]:
    """Somebody asks all the time; what they met is in the report afterwards."""
    command = [
        *(sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "--only-summary"),
        *("--host", url, "--users", str(PEOPLE), "--spawn-rate", str(PEOPLE), "--run-time", f"{RUN_S}s"),
        *("--user-ids", str(users), "--report", str(report)),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as locust:
        try:
            yield
        finally:
            locust.terminate()
            locust.communicate(timeout=60)


def test_a_defect_is_one_problem_for_the_client_and_once_on_the_console_with_its_cause(
    server: Server,
) -> None:
    answer = httpx.post(
        f"{server.url}/v1/recommendations",
        json={"user_id": DEFECT},
        headers={"X-Request-Id": "r-defect"},
        timeout=ANSWER_S,
        trust_env=False,
    )
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "injected" not in answer.text
    for _ in range(100):  # the line comes beside the answer
        if "injected defect" in (said := server.console.read_text()):
            break
        time.sleep(0.1)
    assert said.count("LookupError: injected defect") == 1
    [line] = [line for line in said.splitlines() if "request r-defect failed" in line]
    assert "request_id=r-defect" in line
    assert said.count("Traceback") == 1


def test_a_failing_canary_goes_back_by_itself_and_a_good_one_takes_over(
    server: Server, bundle_dir: Path, user_ids: Path, tmp_path: Path
) -> None:
    failing = copy_of(bundle_dir, tmp_path / FAULTY, "fails now and then")
    good = copy_of(bundle_dir, tmp_path / "good", "as good as the first")
    first, second = tmp_path / "first.json", tmp_path / "second.json"

    before = server.errors(bundle_dir.name)  # of other tests
    with people(server.url, user_ids, first):
        back = server.canary(failing)
        assert back.returncode == 1, back.stdout + back.stderr
        assert "error rate difference" in back.stdout
        assert server.traffic() == [(bundle_dir.name, 100)]
        added = server.errors(bundle_dir.name) - before
    with people(server.url, user_ids, second):
        promoted = server.canary(good)
        assert promoted.returncode == 0, promoted.stdout + promoted.stderr
        assert server.traffic() == [(good.name, 100)]

    met = read(first)
    assert met["versions"][failing.name] > 0
    assert met["failed"] > 0
    # Only the first step's users were exposed. Visitors have no id; their share goes by the request.
    outside = [user for user in met["failed_for"] if user and bucket(user) >= FIRST * BUCKETS // 100]
    assert max(len(outside), added) <= few(met)

    met = read(second)
    assert met["versions"][good.name] > 0
    assert met["failed"] <= few(met), met["failed_for"]


def few(met: dict[str, Any]) -> int:
    """Requests that may miss their deadline on a machine busy with other tests; a failing canary loses a
    fifth of those it gets."""
    return int(met["asked"]) // 100


def read(report: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    print({name: found[name] for name in ("asked", "failed", "lost", "degraded", "versions")})
    return found
