"""Carries how many workers there may be from a RayService into its running RayClusters.

KubeRay leaves `replicas`, `minReplicas` and `maxReplicas` out of what it compares, so that a new number
starts no new cluster; it never reaches the running ones either. Ray's autoscaler stops the surplus over a
lowered maximum at once, with the requests that are there, so a maximum follows the workers down as they fall
idle. Does not belong here: how many workers there are within the bounds, which is the autoscaler's to say.
"""

from __future__ import annotations

import copy
import logging

from k8s.client import RAY_CLUSTERS, RAY_SERVICES, Cluster, Object, Objects
from k8s.errors import Conflict, ControlError

log = logging.getLogger(__name__)

OURS = "app.kubernetes.io/part-of=marquee"
"""Selects the RayServices of this chart."""

MADE_FOR = "ray.io/originated-from-cr-name"
"""KubeRay's label of a RayCluster; its value is the RayService's name."""

BOUNDS = ("minReplicas", "maxReplicas")


def carry_bounds(cluster: Cluster, namespace: str) -> None:
    """Once, into every RayCluster of every RayService of the namespace, also those of an upgrade under way.
    What fails for one is logged and does not hold up the others: the next call tries again."""
    services = {one["metadata"]["name"]: one for one in cluster.list(RAY_SERVICES, namespace, OURS)}
    for running in cluster.list(RAY_CLUSTERS, namespace, MADE_FOR):
        metadata = running["metadata"]
        service = services.get(metadata.get("labels", {}).get(MADE_FOR))
        if service is None or "deletionTimestamp" in metadata:
            continue
        try:
            _carry(cluster, namespace, service["spec"]["rayClusterConfig"], running)
        except Conflict as conflict:
            log.info("%s: %s", metadata["name"], conflict)
        except ControlError as error:
            log.warning("%s: %s", metadata["name"], error)


def _carry(cluster: Cluster, namespace: str, config: Object, running: Object) -> None:
    groups = changed(config, running["spec"])
    if groups is None:
        return
    metadata = running["metadata"]
    # A list is written whole, so only if nobody, above all not the autoscaler, has written since it was read.
    body = {
        "metadata": {"resourceVersion": metadata["resourceVersion"]},
        "spec": {"workerGroupSpecs": groups},
    }
    cluster.patch(RAY_CLUSTERS, namespace, metadata["name"], body)
    said = ", ".join(f"{each['groupName']} {each['minReplicas']} to {each['maxReplicas']}" for each in groups)
    log.info("%s: workers may be %s", metadata["name"], said)


def changed(config: Object, running: Object) -> Objects | None:
    """The worker groups of a running cluster's spec with the bounds of a RayService's `rayClusterConfig`;
    None where they have them. A group that only one of the two has stays as it is. A maximum below the
    workers that the autoscaler holds is carried as their number. Without an autoscaler `replicas` is nobody
    else's and follows too: KubeRay then takes the surplus away pod by pod, each with its drain."""
    autoscaled = config.get("enableInTreeAutoscaling")
    fields = BOUNDS if autoscaled else ("replicas", *BOUNDS)
    wanted = {group["groupName"]: group for group in config.get("workerGroupSpecs", [])}
    before: Objects = running.get("workerGroupSpecs", [])
    after = copy.deepcopy(before)
    for group in after:
        source = wanted.get(group["groupName"], {})
        held = min(group.get("replicas", 0), group.get("maxReplicas", 0)) if autoscaled else 0
        group |= {name: source[name] for name in fields if name in source}
        if "maxReplicas" in source:
            group["maxReplicas"] = max(source["maxReplicas"], held)
    return None if after == before else after
