"""The object that says what traffic a service shall have: a ConfigMap beside its RayService, which nobody but
Marquee and people with kubectl write. Every serving pod mounts it (`serving.traffic.following`).

Does not belong here: what the traffic should be, and whether replicas have it (`k8s.reports`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from k8s.client import CONFIG_MAPS, PODS, Cluster, Object
from k8s.errors import ControlError, NotFound
from serving.config import Traffic
from serving.traffic.desired import KEY, Desired, InvalidTraffic

log = logging.getLogger(__name__)

LABEL = "marquee.dev/rollout"
"""On every ConfigMap of ours, so that a controller sees them change; its value is the RayService's name."""

NUDGE = "marquee.dev/traffic"
"""Annotation of a serving pod. A kubelet shows a ConfigMap's change at its next look at the pod, which comes
within a minute, or when the pod itself changes (Kubernetes' documentation, "Mounted ConfigMaps are updated
automatically")."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is there. `traffic` is None where the text is none: `problem` says why.

    Attributes:
        resource_version: the API's, for writes on this view only.
    """

    traffic: Traffic | None
    revision: int
    resource_version: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class TrafficObject:
    cluster: Cluster
    namespace: str
    service: str

    @property
    def name(self) -> str:
        return f"{self.service}-traffic"

    def read(self) -> Kept | None:
        """None where nobody has made it yet."""
        try:
            item = self.cluster.get(CONFIG_MAPS, self.namespace, self.name)
        except NotFound:
            return None
        version = str(item["metadata"]["resourceVersion"])
        text = (item.get("data") or {}).get(KEY)
        if text is None:
            return Kept(None, 0, version, f"the ConfigMap {self.name} has no key {KEY}")
        try:
            desired = Desired.parse(text)
        except InvalidTraffic as error:
            return Kept(None, 0, version, f"the ConfigMap {self.name} holds no traffic: {error}")
        return Kept(desired.traffic, desired.revision, version)

    def create(self, traffic: Traffic, owner: Object) -> int:
        """The first one; it goes with its owner. Raises Conflict where there is one already."""
        metadata = {
            "name": self.name,
            "namespace": self.namespace,
            "labels": {LABEL: self.service, "app.kubernetes.io/managed-by": "marquee"},
            "ownerReferences": [owner],
        }
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": _data(traffic, 1)}
        self.cluster.create(CONFIG_MAPS, self.namespace, body)
        return 1

    def replace(self, traffic: Traffic, kept: Kept) -> int:
        """In place of what was read. Raises Conflict where somebody has written since."""
        revision = kept.revision + 1
        body = {"metadata": {"resourceVersion": kept.resource_version}, "data": _data(traffic, revision)}
        self.cluster.patch(CONFIG_MAPS, self.namespace, self.name, body)
        return revision

    def nudge(self, pods: Iterable[str]) -> None:
        """Has the kubelets of these pods look at once. Who may not waits a minute."""
        mark = f"{time.time():.3f}"  # any other value than before
        for pod in pods:
            try:
                body = {"metadata": {"annotations": {NUDGE: mark}}}
                self.cluster.patch(PODS, self.namespace, pod, body)
            except ControlError as error:
                log.info("pod %s shows the new traffic within a minute, not at once: %s", pod, error)


def _data(traffic: Traffic, revision: int) -> dict[str, str]:
    return {KEY: Desired(traffic, revision).to_json()}
