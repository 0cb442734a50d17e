"""What tests of a release's life look at: its clusters, its workers, what is left of it.

Does not belong here: one object (`kube`), Helm's verbs (`release`).
"""

from __future__ import annotations

import json

from tests.cluster.kube import Object, items, kubectl, ready, until
from tests.cluster.release import Release

SETTLED_S = 600.0
"""Seconds for an upgrade: a second cluster is up in one to four minutes."""

KEPT = {"PersistentVolumeClaim"}
"""What `helm uninstall` leaves, as the chart's README says: it holds data."""


def clusters(release: Release) -> list[Object]:
    """The RayClusters of the release."""
    return items("rayclusters", release.namespace, f"ray.io/originated-from-cr-name={release.name}")


def bounds(release: Release) -> set[tuple[int, int]]:
    """(minReplicas, maxReplicas) of the worker groups of all its RayClusters."""
    groups = [group for each in clusters(release) for group in each["spec"]["workerGroupSpecs"]]
    return {(group["minReplicas"], group["maxReplicas"]) for group in groups}


def workers(release: Release, cluster: str = "") -> list[Object]:
    """Workers that take requests."""
    return [
        pod
        for pod in release.staying("worker-cpu")
        if ready(pod) and cluster in ("", pod["metadata"]["labels"]["ray.io/cluster"])
    ]


def serving(release: Release) -> str:
    """The name of the RayCluster that answers, or nothing while none does."""
    status = release.service().get("status", {})
    found: str = status.get("activeServiceStatus", {}).get("rayClusterName", "")
    running = status.get("serviceStatus") == "Running"
    return found if running else ""


def settled(release: Release, workers_wanted: int) -> str:
    """Waits until one cluster, and no second, answers from so many workers; returns its name."""

    def look() -> str:
        [only] = clusters(release)
        name: str = only["metadata"]["name"]
        return name if serving(release) == name and len(workers(release, name)) == workers_wanted else ""

    return until("one cluster that serves", look, SETTLED_S)


def whole(release: Release, workers_wanted: int) -> str:
    """As `settled`, with Ray's head and Redis ready, too: a head that lost its Redis is away for a minute."""

    def ready_all() -> bool:
        return all(pods and all(map(ready, pods)) for pods in map(release.pods, ("head", "redis")))

    name = settled(release, workers_wanted)
    until("head and Redis", ready_all, SETTLED_S)
    return name


def lacks_image(release: Release) -> bool:
    """Whether a head cannot have its image."""
    reasons = {
        container["state"].get("waiting", {}).get("reason")
        for pod in release.pods("head")
        for kind in ("initContainerStatuses", "containerStatuses")
        for container in pod["status"].get(kind, [])
    }
    return bool(reasons & {"ErrImagePull", "ImagePullBackOff"})


def everything(release: Release) -> list[str]:
    """kind/name of all objects that the release, or KubeRay for it, has in the namespace, but for events."""
    listed = kubectl("api-resources", "--namespaced", "--verbs=list,delete", "--output=name").split()
    kinds = ",".join(kind for kind in listed if not kind.startswith("events"))
    found: list[Object] = []
    for selector in (f"app.kubernetes.io/instance={release.name}", "ray.io/cluster"):
        found += items(kinds, release.namespace, selector)
    named = {f"{each['kind']}/{each['metadata']['name']}" for each in found}
    return sorted(named)


def left(release: Release) -> list[str]:
    """The same without what is meant to stay."""
    return [name for name in everything(release) if name.split("/")[0] not in KEPT]


def owners_of_spec(release: Release) -> set[str]:
    """The field managers that own anything in the RayService's spec."""
    text = kubectl(
        "--namespace", release.namespace, "get", "rayservice", release.name, "--output=json",
        "--show-managed-fields",
    )  # fmt: skip
    managed = json.loads(text)["metadata"]["managedFields"]
    return {each["manager"] for each in managed if "f:spec" in each["fieldsV1"]}
