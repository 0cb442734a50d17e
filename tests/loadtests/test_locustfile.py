"""The locustfile, run by the real Locust against a small server: what it asks, and how it judges."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest

ROOT = Path(__file__).parents[2]


PEOPLE = 20


Broken = Literal["broken off", "cut short"]


class Server(ThreadingHTTPServer):
    """Answers like Marquee, and every `failing`-th request with 503, or, where `broken`, not at all, or with
    no more than the head of an answer."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, failing: int, broken: Broken | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.failing, self.broken = failing, broken
        self.paths: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.paths["similar" if self.path.endswith("/similar") else self.path] += 1
            self.server.bodies.append(body)
            number = len(self.server.bodies)
        failed = self.server.failing and number % self.server.failing == 0
        if failed and self.server.broken:
            if self.server.broken == "cut short":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
            self.close_connection = True
            return
        items = [] if failed else [{"id": str(each)} for each in range(body["count"])]
        answer = json.dumps({"items": items, "degraded": [], "model": {"version": "v1"}}).encode()
        self.send_response(503 if failed else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(failing: int = 0, broken: Broken | None = None) -> Iterator[Server]:
    with Server(failing, broken) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def locust(server: Server, report: Path, *more: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless"),
            *("--host", f"http://127.0.0.1:{server.server_port}"),
            *("--users", str(PEOPLE), "--spawn-rate", str(PEOPLE)),
            *("--run-time", "8s", "--report", str(report), "--max-p99-ms", "10000", *more),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert report.exists(), done.stderr
    return done.returncode, json.loads(report.read_text(encoding="utf-8")), done.stdout


def test_people_ask_look_and_ask_again_and_a_good_service_is_kept(tmp_path: Path) -> None:
    with serving() as server:
        code, report, said = locust(server, tmp_path / "report.json", "--shape", "spike")
        assert code == 0, said
        assert report["missed"] == []
        answered, arrived = sum(report["versions"].values()), sum(server.paths.values())
        # Whoever is asking when the time is over is cut off, before or after the server has read it.
        assert answered <= arrived <= report["asked"] <= answered + PEOPLE
        assert server.paths["/v1/recommendations"] > 0
        assert server.paths["similar"] > 0
        assert any("user_id" in body for body in server.bodies)


@pytest.mark.parametrize("broken", [None, "broken off", "cut short"])
@pytest.mark.parametrize(("retries", "lost"), [("1", False), ("0", True)])
def test_a_bad_service_is_named_and_a_retry_saves_what_it_can(
    tmp_path: Path, retries: str, lost: bool, broken: Broken | None
) -> None:
    with serving(failing=3, broken=broken) as server:
        code, report, said = locust(server, tmp_path / "report.json", "--retries", retries)
    assert code == 1
    assert "requests failed" in said
    assert "Traceback" not in said
    assert report["failed"] > 0
    if lost:
        assert report["lost"] == report["failed"]
    else:
        assert report["lost"] < report["failed"]


def test_one_that_is_stopped_early_is_judged_by_what_it_saw(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with serving() as server:
        command = [
            *(sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless"),
            *("--host", f"http://127.0.0.1:{server.server_port}", "--users", "5", "--run-time", "60s"),
            *("--report", str(report), "--max-p99-ms", "10000"),
        ]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as locust:
            deadline = time.monotonic() + 30
            while not server.paths and time.monotonic() < deadline:
                time.sleep(0.1)
            locust.terminate()
            assert locust.wait(30) == 0
    assert json.loads(report.read_text(encoding="utf-8"))["asked"] > 0
