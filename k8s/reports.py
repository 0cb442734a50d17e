"""What the replicas of a service say of their traffic, asked of every serving pod's exporter: the table in
service, what was refused and why, what is waited for (`serving.traffic.standing`).

Does not belong here: what the traffic should be (`k8s.traffic_object`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from k8s import web
from k8s.client import PODS, Cluster, Object
from k8s.errors import ControlError
from serving.config import Traffic, TrafficEntry
from serving.traffic.desired import IN_SERVICE, REFUSED, WAITING

PORT = 9464
"""Of a pod's exporter (`marquee exporter`)."""

ASK_S = 3.0
"""s for one pod; a page of some hundred lines, from inside the cluster."""

AT_A_TIME = 16
"""Pods asked at a time; a hundred then take as long as seven."""

CLUSTER = "ray.io/cluster"
NODE_TYPE = "ray.io/node-type"
"""KubeRay's labels on its pods."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica as it reports itself.

    Attributes:
        name: `pod/process`.
        traffic: in service; None before the first.
        versions: URL → version of what is in service.
        refused: URL → why; "" for a text that was no traffic at all.
        waiting: what it waits for before it can serve; empty once it does.
    """

    name: str
    traffic: Traffic | None
    versions: Mapping[str, str]
    refused: Mapping[str, str]
    waiting: str


@dataclass(frozen=True, slots=True)
class Reports:
    """`silent`: pod → why it could not be asked."""

    replicas: tuple[Replica, ...] = ()
    silent: Mapping[str, str] = field(default_factory=dict)

    @property
    def versions(self) -> dict[str, str]:
        """URL → version, as replicas call it."""
        return {url: version for one in self.replicas for url, version in one.versions.items()}

    @property
    def refused(self) -> dict[str, str]:
        """URL → who refused it first and why."""
        found: dict[str, str] = {}
        for one in self.replicas:
            for url, reason in one.refused.items():
                found.setdefault(url, f"{one.name}: {reason}")
        return found

    def behind(self, traffic: Traffic) -> dict[str, str]:
        """Who does not serve this traffic, as far as is known: name → what it does instead."""
        late = {one.name: _instead(one) for one in self.replicas if one.traffic != traffic}
        return late | {pod: f"does not say: {why}" for pod, why in self.silent.items()}

    def agreed(self) -> Traffic | None:
        """What all that serve have in service; None where none does, or they disagree."""
        tables = [one.traffic for one in self.replicas if one.traffic is not None]
        return tables[0] if tables and all(table == tables[0] for table in tables) else None


def read_reports(cluster: Cluster, namespace: str, pods: Iterable[Object]) -> Reports:
    """Asks all at once; what does not answer is told, not raised."""
    asked = list(pods)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        answers = list(pool.map(lambda pod: _ask(cluster, namespace, pod), asked))
    replicas, silent = [], {}
    for pod, answer in zip(asked, answers, strict=True):
        name = pod["metadata"]["name"]
        if isinstance(answer, str):
            replicas += _replicas(name, answer)
        else:
            silent[name] = str(answer)
    return Reports(tuple(replicas), silent)


def serving_pods(cluster: Cluster, namespace: str, service: Object) -> list[Object]:
    """The running workers of a RayService's clusters, the active one and the one that is to follow."""
    status = service.get("status", {})
    parts = (
        status.get(key, {}).get("rayClusterName") for key in ("activeServiceStatus", "pendingServiceStatus")
    )
    names = [name for name in parts if name]
    if not names:
        return []
    found = cluster.list(PODS, namespace, f"{CLUSTER} in ({','.join(names)}),{NODE_TYPE}=worker")
    return [pod for pod in found if _runs(pod)]


def _runs(pod: Object) -> bool:
    """Whether a replica can be in it: it runs, with its exporter, and nobody has asked it to end."""
    status = pod.get("status", {})
    return (
        status.get("phase") == "Running"
        and not pod["metadata"].get("deletionTimestamp")
        and CLUSTER in pod["metadata"].get("labels", {})
    )


def _ask(cluster: Cluster, namespace: str, pod: Object) -> str | Exception:
    name = pod["metadata"]["name"]
    try:
        if not cluster.in_pod:
            return cluster.of_pod(namespace, name, PORT, "metrics")
        address = str(pod["status"].get("podIP", ""))
        host = f"[{address}]" if ":" in address else address
        with web.client(ASK_S) as client:
            response = client.get(f"http://{host}:{PORT}/metrics")
        response.raise_for_status()
        return response.text
    except (ControlError, httpx.HTTPError, httpx.InvalidURL) as error:
        return error


def _replicas(pod: str, text: str) -> list[Replica]:
    """Of one exporter's page; none where it is no page of ours, or no replica is in the pod."""
    tables: dict[str, list[tuple[TrafficEntry, str]]] = {}
    refused: dict[str, dict[str, str]] = {}
    waiting: dict[str, str] = {}
    try:
        families = list(text_string_to_metric_families(text))
    except ValueError:
        return []
    for sample in (sample for family in families for sample in family.samples):
        labels, replica = sample.labels, sample.labels.get("replica", "")
        if sample.name == IN_SERVICE:
            shadow = labels["role"] == "shadow"
            entry = TrafficEntry(bundle=labels["url"], weight=round(100 * sample.value), shadow=shadow)
            tables.setdefault(replica, []).append((entry, labels["bundle"]))
        elif sample.name == REFUSED:
            refused.setdefault(replica, {})[labels["url"]] = labels["reason"]
        elif sample.name == WAITING:
            waiting[replica] = labels["reason"]
    return [
        Replica(
            f"{pod}/{one}",
            _traffic([entry for entry, _ in tables.get(one, [])]),
            {entry.bundle: version for entry, version in tables.get(one, [])},
            refused.get(one, {}),
            waiting.get(one, ""),
        )
        for one in sorted(tables.keys() | refused.keys() | waiting.keys())
    ]


def _traffic(entries: list[TrafficEntry]) -> Traffic | None:
    """A page keeps the order in which the replica wrote its entries."""
    try:
        return Traffic(traffic=tuple(entries))
    except ValidationError:
        return None


def _instead(one: Replica) -> str:
    if one.waiting:
        return one.waiting
    if one.refused:
        url, reason = next(iter(one.refused.items()))
        return f"refused {url or 'the text'}: {reason}"
    if one.traffic is None:
        return "has no bundle yet"
    shares = (f"{e.bundle} {'shadow' if e.shadow else f'{e.weight}%'}" for e in one.traffic.traffic)
    return f"still serves {', '.join(shares)}"
