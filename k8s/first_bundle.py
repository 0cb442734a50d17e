"""Brings a first bundle into service where nobody has been given traffic yet: the last step of a bootstrap.

Does not belong here: a later bundle, which comes by a rollout (`k8s.operations`).
"""

from __future__ import annotations

from dataclasses import dataclass

from k8s.client import RAY_SERVICES, Cluster
from k8s.errors import Conflict, Forbidden, Rejected
from k8s.reports import serving_pods
from k8s.traffic_object import TrafficObject
from serving.config import Traffic


@dataclass(frozen=True, slots=True)
class FirstBundle:
    """A `k8s.bootstrap.Service`: the traffic object of the RayService `name`."""

    cluster: Cluster
    namespace: str
    name: str

    def bundle(self) -> str | None:
        """Raises Rejected where the object is there and holds no traffic: somebody must mend it first."""
        kept = self._object.read()
        if kept is None:
            return None
        if kept.traffic is None:
            raise Rejected(kept.problem)
        return kept.traffic.traffic[0].bundle

    def bring(self, bundle: str) -> bool:
        service = self.cluster.get(RAY_SERVICES, self.namespace, self.name)
        owner = {
            "apiVersion": RAY_SERVICES.api_version,
            "kind": RAY_SERVICES.kind,
            "name": self.name,
            "uid": service["metadata"]["uid"],
        }
        try:
            self._object.create(Traffic.of(bundle), owner)
        except Conflict:
            return False
        try:
            pods = serving_pods(self.cluster, self.namespace, service)
        except Forbidden:
            return True  # a kubelet looks by itself within a minute
        self._object.nudge(pod["metadata"]["name"] for pod in pods)
        return True

    @property
    def _object(self) -> TrafficObject:
        return TrafficObject(self.cluster, self.namespace, self.name)
