"""A release that makes its own first bundle, from a team's tables on a claim, and what is looked at in it.

Does not belong here: what is expected of it.
"""

from __future__ import annotations

import json

from tests.cluster.conftest import marquee
from tests.cluster.kube import Object, items, kubectl
from tests.cluster.release import Release

WHOLE_S = 1_500.0
"""Seconds from nothing to a personal answer: minutes on a machine that nobody else uses."""

COMPONENT = "app.kubernetes.io/component=bootstrap"

SETTINGS = (
    "bootstrap.datasetClaim=tables",
    "bootstrap.evaluate=false",
    "bundleStore.pvc.accessModes[0]=ReadWriteMany",
    "workspace.accessModes[0]=ReadWriteMany",
    "workers.cpu.resources.requests.cpu=500m",
    "head.resources.requests.cpu=300m",
    "monitoring.enabled=false",
    "monitoring.dashboards.enabled=false",
)
"""Volumes that pods on several small nodes may share."""


def status(namespace: str) -> Object:
    """What `marquee cluster status` says, for scripts."""
    done = marquee("cluster", "status", "--namespace", namespace, "--output", "json", timeout_s=120)
    assert done.returncode == 0, done.stderr
    found: Object = json.loads(done.stdout)
    return found


def jobs(release: Release) -> dict[str, bool]:
    """Name of each bootstrap Job → whether it is complete."""
    found = items("jobs", release.namespace, COMPONENT)
    return {job["metadata"]["name"]: bool(job.get("status", {}).get("succeeded")) for job in found}


def log(release: Release, job: str) -> str:
    """Of all tries of a Job."""
    selector = f"batch.kubernetes.io/job-name={job}"
    return kubectl("--namespace", release.namespace, "logs", "--selector", selector, "--tail=-1")


def wanted(release: Release) -> list[tuple[str, int]]:
    """(bundle, weight) of the traffic object; none where there is no such object."""
    found = [
        one
        for one in items("configmaps", release.namespace)
        if one["metadata"]["name"] == f"{release.name}-traffic"
    ]
    tables = [json.loads(one["data"]["traffic.json"])["traffic"] for one in found]
    return [(entry["bundle"], entry.get("weight", 0)) for table in tables for entry in table]


def in_store(release: Release) -> set[str]:
    """Versions of the bundles that a serving pod sees."""
    [pod, *_] = release.pods("head")
    said = kubectl(
        "--namespace", release.namespace, "exec", pod["metadata"]["name"], "--container", "ray", "--",
        "sh", "-c", "ls -d /bundles/*/manifest.json 2>/dev/null || true",
    )  # fmt: skip
    return {line.split("/")[2] for line in said.split()}
