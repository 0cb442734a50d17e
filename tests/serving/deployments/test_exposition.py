"""Several replicas, each a process of its own, add up their metrics in one folder."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.deployments.exposition import FRESH_S
from serving.local.ports import free_block

ROOT = Path(__file__).resolve().parents[3]

REPLICA = """
import sys
from pathlib import Path
from serving.traffic.bundle_metrics import BundleMetrics
from serving.config import ShadowConfig, Traffic
from serving.deployments.exposition import GaugeFile, exposition
from serving.traffic.live import Live
from serving.observe.prometheus import PrometheusRecorder
from serving.traffic.shadow import Shadows
from serving.traffic.table import Table
from tests.serving.fakes import engine_of

folder, before, bundle = Path(sys.argv[1]), *sys.argv[2:]
recorder = PrometheusRecorder()
metrics = BundleMetrics(recorder.registry)
live = Live(metrics, Shadows(ShadowConfig(), metrics))
for version in (before, bundle):
    live.swap(Table.of(Traffic.of(version), [engine_of(version=version)]))
    metrics.watch(version).ok()
    metrics.watch(version).seconds(0.01)
recorder.request("/x", 200, 0.01)
GaugeFile(recorder.registry, folder).write()
print(exposition(recorder, folder)().decode())
"""


def replica(folder: Path, before: str, bundle: str) -> str:
    """Serves one bundle, then another, ends, and says what it showed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", REPLICA, folder, before, bundle],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def samples(text: str) -> dict[str, float]:
    return {
        " ".join([sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items()) if k != "replica")]): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_replica_shows_totals_and_its_own_gauges_of_what_is_in_traffic(tmp_path: Path) -> None:
    replica(tmp_path, "A", "B")
    found = samples(replica(tmp_path, "A", "B"))
    assert found["marquee_requests_total endpoint=/x status=200"] == 2
    assert found["marquee_bundle_requests_total bundle=B outcome=ok"] == 2
    assert found["marquee_bundle_seconds_count bundle=B"] == 2
    assert found["marquee_bundle_weight_ratio bundle=B role=production"] == 1
    assert not any("bundle=A" in name for name in found)


@pytest.mark.parametrize("ending", [signal.SIGTERM])
def test_the_exporter_shows_totals_of_all_and_gauges_of_each_live_replica(
    tmp_path: Path, ending: signal.Signals
) -> None:
    replica(tmp_path, "A", "B")
    [ended] = tmp_path.glob("*.gauges")
    long_ago = time.time() - FRESH_S - 1
    os.utime(ended, (long_ago, long_ago))
    replica(tmp_path, "A", "C")
    replica(tmp_path, "B", "C")
    port = free_block()[0]
    command = ["exporter", "--port", str(port), "--host", "127.0.0.1", "--folder", str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-m", "marquee", *command], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as exporter:
        try:
            assert exporter.stdout is not None
            assert str(port) in exporter.stdout.readline()
            text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10, trust_env=False).text
        finally:
            exporter.send_signal(ending)
        assert exporter.wait(30) == 0
    found = samples(text)
    assert found["marquee_requests_total endpoint=/x status=200"] == 3
    assert found["marquee_bundle_requests_total bundle=C outcome=ok"] == 2
    assert not any("bundle=A" in name or "bundle=B" in name for name in found)
    weights = [line for line in text.splitlines() if line.startswith("marquee_bundle_weight_ratio{")]
    assert len(weights) == 2
    assert all('replica="' in line and line.endswith(" 1.0") for line in weights)
    assert text.count("# TYPE marquee_bundle_weight_ratio gauge") == 1


def test_an_exporter_without_a_folder_says_what_to_name(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "marquee", "exporter", "--folder", str(tmp_path / "none")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "MARQUEE_METRICS_DIR" in done.stderr
