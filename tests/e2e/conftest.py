"""One cluster for all end-to-end tests: real Ray Serve behind HAProxy, real Feast, real Valkey."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from features.embedded import EmbeddedRedis
from features.prepare import prepare
from serving.local.ports import free_block
from tests.collector import Collector, collecting
from tests.e2e.traffic import change, entry
from training.bundle import read_bundle, write_bundle

ROOT = Path(__file__).resolve().parents[2]
ANSWER_S = 10.0
"""Seconds a test waits for an answer: a hang fails, a slow machine does not."""


@dataclass(frozen=True)
class Cluster:
    """Attributes:
    url: of the distributed application; the fused one is below /fused.
    gpus_in_use: of the two declared to Ray.
    metrics_folder: where the replicas count.
    ray_metrics: host:port of Ray's own metrics.
    process: the one that started everything.
    """

    url: str
    gpus_in_use: float
    metrics_folder: str
    ray_metrics: str
    process: subprocess.Popen[str]


@pytest.fixture(scope="session")
def home(bundle_dir: Path) -> Path:
    """The MARQUEE_HOME that holds the bundle, with the data and the features it was trained on."""
    return bundle_dir.parents[1]


@pytest.fixture(scope="session")
def redis(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A Redis with the features; stopped and started again it keeps its URL."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis"), port=free_block()[0]) as server:
        prepare(home, server.url, force=False, progress=lambda what, done, total: None)
        yield server


@pytest.fixture(scope="session")
def other_bundle(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same models under another version."""
    bundle = read_bundle(str(bundle_dir))
    return write_bundle(
        tmp_path_factory.mktemp("other") / "bundles",
        schema=bundle.schema,
        catalogue=bundle.catalogue,
        components=bundle.components,
        declaration=bundle.declaration,
        model_card="another card",
        manifest=bundle.manifest,
    )


@pytest.fixture
def altered_bundle(bundle_dir: Path, tmp_path: Path) -> Path:
    """One byte of it is another than its manifest says."""
    altered = tmp_path / "altered"
    shutil.copytree(bundle_dir, altered)
    with (altered / "ranker.safetensors").open("r+b") as file:
        file.write(b"\xff")
    return altered


@pytest.fixture(scope="session")
def users(home: Path) -> list[str]:
    import pyarrow.parquet as pq

    table = pq.read_table(home / "data" / "users.parquet", columns=["user_id"])
    return [str(user) for user in table["user_id"].to_pylist()]


@pytest.fixture(scope="session")
def user_ids(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the users that the features know, for the load tests."""
    table = pq.read_table(home / "data" / "users.parquet", columns=["user_id"])
    file = tmp_path_factory.mktemp("users") / "ids"
    file.write_text("\n".join(table["user_id"].to_pylist()), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Takes the cluster's spans."""
    with collecting() as one:
        yield one


@pytest.fixture(scope="session")
def cluster(
    bundle_dir: Path,
    home: Path,
    redis: EmbeddedRedis,
    collector: Collector,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    script = Path(__file__).with_name("host.py")
    arguments = (bundle_dir, home, redis.url, free_block()[0])
    with hosted(script, arguments, tmp_path_factory.mktemp("cluster"), traced(collector)) as (said, process):
        yield Cluster(**said, process=process)


@contextmanager
def hosted(
    script: Path, arguments: Sequence[object], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[dict[str, Any], subprocess.Popen[str]]]:
    """A script that serves until its input ends, and the line of JSON that it said when it answered. It is a
    process of its own, as Ray reads its settings once."""
    log = folder / "log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, str(script), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        ) as process,
    ):
        assert process.stdout is not None
        said = next((json.loads(line) for line in process.stdout if line.startswith("{")), None)
        if said is None:
            pytest.fail(f"{script.name} did not start: {log.read_text()[-2_000:]}")
        yield said, process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0, log.read_text()[-2_000:]


def command(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """A `marquee` command as a user runs it."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PORT", "HOST", "REDIS_URL")}
    return subprocess.Popen(
        [sys.executable, "-m", "marquee", *arguments],
        cwd=ROOT,
        env={**kept, "NO_COLOR": "1", "COLUMNS": "200", "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def traced(collector: Collector) -> dict[str, str]:
    """Only what a request's own `traceparent` samples is."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_TRACES_SAMPLER": "parentbased_always_off",
        "OTEL_BSP_SCHEDULE_DELAY": "200",  # ms
    }


@pytest.fixture
def client(cluster: Cluster) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=cluster.url, timeout=ANSWER_S, trust_env=False) as made:
        yield made


@pytest.fixture
def admin(client: httpx.Client, home: Path, bundle_dir: Path) -> Iterator[httpx.Client]:
    """Calls with the token that the server left for its owner; in the end the traffic is as before."""
    client.headers["Authorization"] = f"Bearer {(home / 'admin-token').read_text().strip()}"
    yield client
    change(client, entry(bundle_dir, 100))
