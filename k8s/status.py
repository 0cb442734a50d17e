"""What runs in a namespace: pods by role, GPUs, Serve applications, bundles in traffic, autoscaled groups.
Reads only.

Does not belong here: how it is shown (`k8s.cluster_cli`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from k8s.client import NODES, PODS, RAY_CLUSTERS, RAY_SERVICES, Cluster, Object
from k8s.errors import Forbidden
from k8s.reports import read_reports, serving_pods
from k8s.traffic_object import TrafficObject
from k8s.waiting import waits
from serving.config import Traffic

GPU = "nvidia.com/gpu"

ROLE_LABELS = ("ray.io/group", "ray.io/node-type", "app.kubernetes.io/component", "app.kubernetes.io/name")
"""The first that a pod has says what it is for."""

OVER = ("Succeeded", "Failed")
"""Phases in which a pod holds no resources."""


@dataclass(frozen=True, slots=True)
class Gpus:
    """Whole GPUs; `requested` by pods of all namespaces that are not over."""

    allocatable: int
    requested: int


@dataclass(frozen=True, slots=True)
class Deployment:
    """One Serve deployment; status and message are Ray's."""

    name: str
    status: str
    message: str


@dataclass(frozen=True, slots=True)
class Application:
    name: str
    status: str
    message: str
    deployments: tuple[Deployment, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """One worker group of the active RayCluster; `desired` is what the autoscaler has asked for."""

    name: str
    least: int
    most: int
    desired: int
    ready: int


@dataclass(frozen=True, slots=True)
class Service:
    """One RayService. `traffic` is None where it has none, or none that can be read: `problem` says why.
    `behind`: replicas that do not serve it → what they do instead."""

    name: str
    status: str
    cluster: str
    pending: str
    applications: tuple[Application, ...]
    groups: tuple[Group, ...]
    traffic: Traffic | None
    problem: str
    behind: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Status:
    """`pods`: (role, phase) → how many; a running pod that is not ready is "NotReady". `gpus` is None where
    one may not ask (it takes a ClusterRole). `waits`: a line for each thing that is waited for."""

    namespace: str
    pods: Mapping[tuple[str, str], int]
    gpus: Gpus | None
    services: tuple[Service, ...]
    waits: tuple[str, ...] = ()


def read_status(cluster: Cluster, namespace: str) -> Status:
    """Raises ControlErrors where the API server cannot be asked."""
    pods = cluster.list(PODS, namespace)
    clusters = {one["metadata"]["name"]: one for one in cluster.list(RAY_CLUSTERS, namespace)}
    services = [
        _service(one, clusters, pods, _traffic(cluster, namespace, one))
        for one in cluster.list(RAY_SERVICES, namespace)
    ]
    try:
        gpus = count_gpus(cluster.list(NODES, None), cluster.list(PODS, None))
    except Forbidden:
        gpus = None
    return Status(namespace, count_pods(pods), gpus, tuple(services), waits(cluster, namespace, pods))


def count_pods(pods: Iterable[Object]) -> dict[tuple[str, str], int]:
    return dict(sorted(Counter((role(pod), phase(pod)) for pod in pods).items()))


def role(pod: Object) -> str:
    labels = pod["metadata"].get("labels", {})
    return next((labels[label] for label in ROLE_LABELS if label in labels), "other")


def phase(pod: Object) -> str:
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    named = str(pod.get("status", {}).get("phase", "Unknown"))
    return "NotReady" if named == "Running" and not ready(pod) else named


def ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def count_gpus(nodes: Iterable[Object], pods: Iterable[Object]) -> Gpus:
    allocatable = sum(quantity(node.get("status", {}).get("allocatable", {}).get(GPU, 0)) for node in nodes)
    return Gpus(allocatable, sum(_gpus_of(pod) for pod in pods if phase(pod) not in OVER and _placed(pod)))


def quantity(text: object) -> int:
    """A whole quantity, e.g. of an extended resource; what is none counts as 0."""
    try:
        return int(Decimal(str(text)))
    except InvalidOperation:
        return 0


def _placed(pod: Object) -> bool:
    """Only a pod on a node holds a GPU of it."""
    return bool(pod.get("spec", {}).get("nodeName"))


def _gpus_of(pod: Object) -> int:
    """Containers run together; init containers before them, one at a time."""

    def asked(kind: str) -> list[int]:
        containers = pod.get("spec", {}).get(kind, [])
        return [quantity(one.get("resources", {}).get("limits", {}).get(GPU, 0)) for one in containers]

    return max([sum(asked("containers")), *asked("initContainers")])


@dataclass(frozen=True, slots=True)
class _Traffic:
    wanted: Traffic | None
    problem: str
    behind: Mapping[str, str]


def _service(
    service: Object, clusters: Mapping[str, Object], pods: Iterable[Object], traffic: _Traffic
) -> Service:
    status = service.get("status", {})
    active = status.get("activeServiceStatus", {})
    name = str(active.get("rayClusterName", ""))
    return Service(
        name=service["metadata"]["name"],
        status=status.get("serviceStatus") or "Unknown",
        cluster=name,
        pending=str(status.get("pendingServiceStatus", {}).get("rayClusterName", "")),
        applications=tuple(
            _application(one, state) for one, state in active.get("applicationStatuses", {}).items()
        ),
        groups=tuple(_groups(clusters[name], pods)) if name in clusters else (),
        traffic=traffic.wanted,
        problem=traffic.problem,
        behind=traffic.behind,
    )


def _application(name: str, state: Object) -> Application:
    deployments = tuple(
        Deployment(one, str(found.get("status", "")), str(found.get("message", "")))
        for one, found in state.get("serveDeploymentStatuses", {}).items()
    )
    return Application(name, str(state.get("status", "")), str(state.get("message", "")), deployments)


def _groups(cluster: Object, pods: Iterable[Object]) -> Iterable[Group]:
    name = cluster["metadata"]["name"]
    mine = [pod for pod in pods if pod["metadata"].get("labels", {}).get("ray.io/cluster") == name]
    up = Counter(role(pod) for pod in mine if ready(pod))
    for group in cluster.get("spec", {}).get("workerGroupSpecs", []):
        least = int(group.get("minReplicas", 0))
        yield Group(
            name=group["groupName"],
            least=least,
            most=int(group.get("maxReplicas", 0)),
            desired=int(group.get("replicas", least)),
            ready=up[group["groupName"]],
        )


def _traffic(cluster: Cluster, namespace: str, service: Object) -> _Traffic:
    kept = TrafficObject(cluster, namespace, service["metadata"]["name"]).read()
    reports = read_reports(cluster, namespace, serving_pods(cluster, namespace, service))
    if kept is None:
        agreed = reports.agreed()
        waiting = next((one.waiting for one in reports.replicas if one.waiting), "no traffic object yet")
        return _Traffic(agreed, "" if agreed else waiting, {})
    if kept.traffic is None:
        return _Traffic(None, kept.problem, {})
    return _Traffic(kept.traffic, "", reports.behind(kept.traffic))
