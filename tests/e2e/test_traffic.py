"""Two bundles in the traffic of a running cluster, changed through the admin endpoint of the server."""

import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.traffic import ADMIN, SWAP_S, change, entry


def eventually(admin: httpx.Client, metric: str) -> None:
    """Waits until this line is in the metrics."""
    deadline = time.monotonic() + SWAP_S
    while metric not in (found := admin.get("/metrics").text):
        assert time.monotonic() < deadline, [
            line for line in found.splitlines() if "marquee_bundle_w" in line
        ]
        time.sleep(0.1)


def versions(client: httpx.Client, users: int) -> list[str]:
    return [version(client, f"user-{i}") for i in range(users)]


def version(client: httpx.Client, user: str) -> str:
    """Of the bundle that answers a user; on a busy machine the sources may miss their budget once."""
    for _ in range(20):
        answer = client.post("/v1/recommendations", json={"user_id": user})
        if answer.status_code == 200:
            return str(answer.json()["model"]["version"])
    pytest.fail(answer.text)


def replicas(cluster: Cluster) -> set[int]:
    below = psutil.Process(cluster.process.pid).children(recursive=True)
    return {process.pid for process in below if "ServeReplica:marquee" in "".join(process.cmdline())}


def test_a_canary_keeps_its_users_and_a_shadow_answers_nobody_and_no_replica_restarts(
    cluster: Cluster, admin: httpx.Client, bundle_dir: Path, other_bundle: Path
) -> None:
    before = replicas(cluster)
    assert len(before) == 4
    revision = admin.get(ADMIN).json()["revision"]
    change(admin, entry(bundle_dir, 90), entry(other_bundle, 10), **{"If-Match": revision})
    eventually(admin, f'marquee_bundle_weight_ratio{{bundle="{other_bundle.name}",role="canary"}} 0.1')
    few = versions(admin, 60)
    assert set(few) == {bundle_dir.name, other_bundle.name}
    assert few.count(other_bundle.name) < 20
    assert versions(admin, 60) == few
    stale = admin.put(ADMIN, json={"traffic": [entry(other_bundle, 100)]}, headers={"If-Match": revision})
    assert stale.status_code == 412

    change(admin, entry(bundle_dir, 50), entry(other_bundle, 50))
    eventually(admin, f'marquee_bundle_weight_ratio{{bundle="{other_bundle.name}",role="canary"}} 0.5')
    more = versions(admin, 60)
    assert all(
        now == other_bundle.name for was, now in zip(few, more, strict=True) if was == other_bundle.name
    )

    change(admin, entry(bundle_dir, 100), entry(other_bundle))
    eventually(admin, f'marquee_bundle_weight_ratio{{bundle="{other_bundle.name}",role="shadow"}} 0.0')
    assert set(versions(admin, 10)) == {bundle_dir.name}
    eventually(admin, f'marquee_shadow_requests_total{{bundle="{other_bundle.name}",outcome="ok"}}')
    assert replicas(cluster) == before


def test_a_caller_without_the_token_learns_nothing(client: httpx.Client) -> None:
    assert client.get(ADMIN).status_code == 401
