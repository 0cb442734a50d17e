"""What people see of a running cluster: a real Prometheus scrapes what it scrapes on Kubernetes (the exporter
of the replicas, and Ray), and every query of every dashboard and alert has data."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from features.embedded import EmbeddedRedis
from serving.local.ports import free_block
from tests.e2e.conftest import Cluster, command
from tests.e2e.traffic import change, entry, tried
from tests.observability.answers import asked, assert_every_query_answers
from tests.observability.prometheus_server import need_prometheus, prometheus

RECOMMEND = "/v1/recommendations"


@pytest.fixture
def exporter(cluster: Cluster) -> Iterator[str]:
    """host:port of the sidecar that adds up what the replicas of a pod count."""
    port = str(free_block()[0])
    given = ("--host", "127.0.0.1", "--port", port, "--folder", cluster.metrics_folder)
    with command("exporter", *given) as process:
        assert process.stdout is not None
        assert "/metrics" in process.stdout.readline(), process.communicate()[1]
        yield f"127.0.0.1:{port}"
        process.terminate()


@pytest.fixture
def keep_busy(
    admin: httpx.Client,
    bundle_dir: Path,
    other_bundle: Path,
    altered_bundle: Path,
    redis: EmbeddedRedis,
    users: list[str],
) -> Callable[[], None]:
    """A bundle was refused, another runs as a shadow, a stage was lost; people go on asking, some wrongly."""
    assert tried(admin, entry(bundle_dir, 100), entry(altered_bundle)) == ["serving", "refused"]
    change(admin, entry(bundle_dir, 100), entry(other_bundle))
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        stranger = {"user_id": "of whom no row is kept"}
        assert "features" in admin.post(RECOMMEND, json=stranger).json()["degraded"]
    finally:
        os.kill(redis.pid, signal.SIGCONT)
    items = [item["id"] for item in admin.post(RECOMMEND, json={"user_id": users[0]}).json()["items"]]

    def some() -> None:
        for body in ({"user_id": users[1]}, {"user_id": "nobody at all"}, {"user_id": users[1], "count": 0}):
            admin.post(RECOMMEND, json=body)
        admin.post("/v1/rank", json={"user_id": users[2], "item_ids": items})
        admin.post(f"/v1/items/{items[0]}/similar", json={})
        admin.post(f"/fused{RECOMMEND}", json={"user_id": users[1]})  # the application with a cache
        time.sleep(0.2)  # a pace, not a wait: rates need several scrapes

    return some


def test_every_query_of_every_dashboard_and_alert_has_data(
    cluster: Cluster, exporter: str, keep_busy: Callable[[], None], tmp_path: Path
) -> None:
    need_prometheus()
    service = cluster.url.removeprefix("http://")
    with prometheus(tmp_path, {"pods": exporter, "ray": cluster.ray_metrics, "service": service}) as url:
        answered = assert_every_query_answers(url, keep_busy)
        assert len(answered) > 0.95 * len(asked())  # what a machine without a GPU cannot tell is no more
        assert names(url, "service") == names(url, "pods")


def names(url: str, job: str) -> set[str]:
    """Of the series that Marquee itself makes."""
    query = f'group by (__name__) ({{job="{job}", __name__=~"marquee_.+"}})'
    answer = httpx.post(f"{url}/api/v1/query", data={"query": query}, timeout=10, trust_env=False)
    return {series["metric"]["__name__"] for series in answer.json()["data"]["result"]}
