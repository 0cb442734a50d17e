"""Signals from Prometheus: what is asked, what is made of the answers, and a real Prometheus that answers."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import prometheus_client
import pytest
import yaml
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from k8s.errors import Unavailable
from k8s.guardrails import Guardrails, Signals, judge
from k8s.signals import PrometheusSource
from serving.local.ports import free_block
from tests.k8s.loopback import FakePrometheus, Loopback, running


def test_answers_become_signals() -> None:
    with running(FakePrometheus()) as fake:
        assert isinstance(fake, FakePrometheus)
        fake.errors = 0.05
        found = PrometheusSource(fake.url, 'namespace="prod"').read("v1", "v2", 120.0)
        assert (found.candidate.requests, found.candidate.errors) == (1_000.0, 50.0)
        assert (found.production.errors, found.candidate.p99_s, found.shadow.overlap) == (0.0, 0.05, 0.8)
        assert found.refused == 0.0
        assert all('namespace="prod"' in query for query in fake.queries)
        assert any("[120s]" in query for query in fake.queries)


@pytest.mark.parametrize(
    ("status", "text", "word"),
    [
        (503, "busy", "is no Prometheus"),
        (200, "{}", "is no Prometheus"),
        (400, '{"status": "error", "error": "parse error"}', "parse error"),
    ],
)
def test_what_is_no_answer_is_no_data(status: int, text: str, word: str) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, text=text))
    with pytest.raises(Unavailable, match=word):
        PrometheusSource("http://prometheus", transport=transport).read("v1", "v2", 60)


def test_not_a_number_is_unknown() -> None:
    def nan(request: httpx.Request) -> httpx.Response:
        result = [{"metric": {"bundle": "v1"}, "value": [0, "NaN"]}]
        return httpx.Response(200, json={"status": "success", "data": {"result": result}})

    found = PrometheusSource("http://prometheus", transport=httpx.MockTransport(nan)).read("v1", "v2", 60)
    assert found == Signals()


class Exporter(Loopback):
    """Metrics of two bundles, v2 with 5% errors; each scrape finds 200 more requests on each."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = CollectorRegistry()
        by = ["bundle", "outcome"]
        registry = self.registry
        self.requests = Counter("marquee_bundle_requests", "", by, registry=registry)
        self.copies = Counter("marquee_shadow_requests", "", by, registry=registry)
        self.seconds = Histogram(
            "marquee_bundle_seconds", "", by[:1], registry=registry, buckets=(0.05, 0.1, 1)
        )
        self.overlap = Histogram("marquee_shadow_overlap_ratio", "", by[:1], registry=registry)
        self.degraded = Counter("marquee_bundle_degraded", "", by[:1], registry=registry)
        self.empty = Counter("marquee_bundle_empty", "", by[:1], registry=registry)
        self.coverage = Gauge("marquee_bundle_coverage_ratio", "", by[:1], registry=registry)
        self.psi = Gauge("marquee_bundle_score_psi", "", by[:1], registry=registry)
        self.refused = Counter("marquee_bundle_refused", "", ["reason"], registry=registry)
        self.lock = threading.Lock()

    def answer(self, *_: object) -> tuple[int, object]:
        with self.lock:
            for version, errors in (("v1", 0), ("v2", 10)):
                self.requests.labels(version, "ok").inc(200 - errors)
                self.requests.labels(version, "error").inc(errors)
                for _ in range(200):
                    self.seconds.labels(version).observe(0.07)
                self.degraded.labels(version).inc(2)
                self.empty.labels(version).inc(0)
                self.coverage.labels(version).set(0.5)
                self.psi.labels(version).set(0.0)
            self.copies.labels("v2", "ok").inc(20)
            self.overlap.labels("v2").observe(0.75)
            self.refused.labels("Checksum").inc(0)
            return 200, prometheus_client.generate_latest(self.registry).decode()


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[str]:
    """A real one, that scrapes the exporter every second."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no prometheus on PATH")
    with running(Exporter()) as exporter:
        job = {"job_name": "marquee", "static_configs": [{"targets": [exporter.url.removeprefix("http://")]}]}
        config = tmp_path / "prometheus.yml"
        config.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))
        address = f"127.0.0.1:{free_block()[0]}"
        command = [program, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
        log = (tmp_path / "log").open("w")
        with (
            log,
            subprocess.Popen(
                [*command, f"--web.listen-address={address}"], stderr=log, stdout=log
            ) as process,
        ):
            try:
                yield f"http://{address}"
            finally:
                process.terminate()


def test_a_real_prometheus_answers_every_query(prometheus: str) -> None:
    source, until = PrometheusSource(prometheus), time.monotonic() + 60
    found = Signals()
    while judge(Guardrails(), found, shadow=False).missing or found.shadow.overlap is None:
        assert time.monotonic() < until, f"no data: {found}"
        time.sleep(0.25)
        try:
            found = source.read("v1", "v2", 30.0)
        except Unavailable:
            continue  # it is starting
    assert found.candidate.errors / found.candidate.requests == pytest.approx(0.05, rel=0.05)
    assert found.production.errors == 0.0
    assert found.candidate.p99_s == pytest.approx(0.1, rel=0.02)
    assert found.candidate.degraded / found.candidate.requests == pytest.approx(0.01, rel=0.05)
    assert found.shadow.overlap == pytest.approx(0.75)
    assert found.shadow.requests > 0
    assert found.refused == 0.0
    [broken] = judge(Guardrails(), found, shadow=False).broken
    assert "error rate" in broken
