"""Servers on loopback that the control plane talks to besides Kubernetes: a Prometheus that answers its
queries, and a Marquee server with an admin endpoint and metrics."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from k8s.rollout import version_of
from serving.config import Traffic

TOKEN = "a-token"


class Handler(BaseHTTPRequestHandler):
    """Hands every request to the server's `answer(method, path, body, headers) → (status, JSON or text)`."""

    protocol_version = "HTTP/1.1"

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        status, content = self.server.answer(self.command, self.path, body, dict(self.headers))  # type: ignore[attr-defined]  # made here, unknown to the type
        data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = _any  # noqa: N815 - http.server's own names

    def log_message(self, format: str, *args: object) -> None:
        pass


class Loopback(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, method: str, path: str, body: str, headers: dict[str, str]) -> tuple[int, Any]:
        raise NotImplementedError


@contextmanager
def running(server: Loopback) -> Iterator[Loopback]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class FakePrometheus(Loopback):
    """Healthy bundles v1 and v2; `errors` is the share of v2's answers that fail. Keeps the queries."""

    errors = 0.0
    down = False

    def __init__(self) -> None:
        super().__init__()
        self.queries: list[str] = []

    def answer(self, method: str, path: str, body: str, headers: dict[str, str]) -> tuple[int, Any]:
        if self.down:
            return 503, "busy"
        [query] = parse_qs(body)["query"]
        self.queries.append(query)
        samples = [] if "refused" in query else [self._sample(query, v, o) for v, o in self._series(query)]
        return 200, {"status": "success", "data": {"resultType": "vector", "result": samples}}

    def _series(self, query: str) -> list[tuple[str, str]]:
        outcomes = ("ok", "error") if "outcome" in query else ("",)
        return [(version, outcome) for version in ("v1", "v2") for outcome in outcomes]

    def _sample(self, query: str, version: str, outcome: str) -> dict[str, Any]:
        share = self.errors if version == "v2" else 0.0
        values = {"requests_total": 1_000 * (share if outcome == "error" else 1 - share)}
        values |= {"seconds_bucket": 0.05, "coverage": 0.5, "psi": 0.01, "overlap": 0.8}
        values |= {"degraded": 1, "empty": 1}
        name = next(name for name in ("overlap", *values) if name in query)
        labels = {"bundle": version} | ({"outcome": outcome} if outcome else {})
        return {"metric": labels, "value": [0, str(values[name])]}


class FakeMarquee(Loopback):
    """Every scrape finds a thousand more requests on each bundle in traffic; `errors` as above."""

    errors = 0.0

    def __init__(self, *traffic: dict[str, Any]) -> None:
        super().__init__()
        self.traffic = list(traffic)
        self.seen: list[list[dict[str, Any]]] = []
        self.counts: dict[tuple[str, str], float] = {}
        self.revision = 1
        self.refuses = ""

    def answer(self, method: str, path: str, body: str, headers: dict[str, str]) -> tuple[int, Any]:
        if path == "/metrics":
            return 200, self._metrics()
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, {"detail": "who?"}
        if method == "PUT":
            if headers.get("If-Match", str(self.revision)) != str(self.revision):
                return 412, {"detail": "stale"}
            try:
                Traffic.model_validate_json(body)
            except ValueError as error:
                return 422, {"detail": str(error)}
            self.traffic, self.revision = json.loads(body)["traffic"], self.revision + 1
            self.seen.append(self.traffic)
        return 202 if method == "PUT" else 200, {"traffic": self._entries(), "revision": str(self.revision)}

    def _entries(self) -> list[dict[str, Any]]:
        return [
            {"weight": 0, "shadow": False, "error": None, "state": "serving"}
            | entry
            | {"version": version_of(entry["bundle"])}
            | (
                {"state": "refused", "error": "checksum"}
                if version_of(entry["bundle"]) == self.refuses
                else {}
            )
            for entry in self.traffic
        ]

    def _metrics(self) -> str:
        lines = []
        for entry in self.traffic:
            version = version_of(entry["bundle"])
            share = self.errors if version == "v2" else 0.0
            for outcome, part in (("ok", 1 - share), ("error", share)):
                for name in ("bundle", "shadow"):
                    key = (f'marquee_{name}_requests_total{{bundle="{version}",outcome="{outcome}"}}', "")
                    self.counts[key] = self.counts.get(key, 0) + 1_000 * part
            for key, growth in (
                (f'marquee_bundle_seconds_bucket{{bundle="{version}",le="0.1"}}', 1_000),
                (f'marquee_bundle_seconds_bucket{{bundle="{version}",le="+Inf"}}', 1_000),
                (f'marquee_shadow_overlap_ratio_sum{{bundle="{version}"}}', 800),
                (f'marquee_shadow_overlap_ratio_count{{bundle="{version}"}}', 1_000),
            ):
                self.counts[(key, "")] = self.counts.get((key, ""), 0) + growth
            lines += [
                f'marquee_bundle_coverage_ratio{{bundle="{version}"}} 0.5',
                f'marquee_bundle_score_psi{{bundle="{version}"}} 0.01',
            ]
        lines += [f"{key} {value}" for (key, _), value in self.counts.items()]
        families = sorted(lines, key=lambda line: re.split(r"[{ ]", line)[0])
        return "\n".join(families) + "\n"
