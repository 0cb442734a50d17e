"""A rollout's target on Kubernetes: the traffic of a RayService, the record in a ConfigMap beside it, the
decisions as Events on it.

Does not belong here: the API's transport (`k8s.client`), the text of serveConfigV2 (`k8s.traffic_edit`).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from k8s.client import CONFIG_MAPS, EVENTS, RAY_SERVICES, Cluster, Object
from k8s.errors import Conflict, ControlError, NotFound
from k8s.plan import Rollout, from_json, to_json
from k8s.rollout import Action
from k8s.target import Observed, Record
from k8s.traffic_edit import NotOneTable, read_traffic, write_traffic
from serving.config import Traffic

CONTROLLER = "marquee.dev/rollout"
LABEL = "marquee.dev/rollout"
"""On every record's ConfigMap, so that a controller finds them; its value is the RayService's name."""

KEY = "rollout.json"
NOTE = 1_024
"""Bytes an Event's note may have (events.k8s.io/v1)."""

WARNINGS = (Action.ROLL_BACK, Action.STOP)


class RayServiceTarget:
    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self._cluster, self._namespace, self._name = cluster, namespace, name
        self._service: Object = {}

    @property
    def name(self) -> str:
        return f"{self._namespace}/{self._name}"

    def read(self) -> Observed:
        """Raises TrafficEditError where there is no traffic to move."""
        self._service = self._cluster.get(RAY_SERVICES, self._namespace, self._name)
        version = self._service["metadata"]["resourceVersion"]
        try:
            traffic = read_traffic(self._text)
        except NotOneTable:
            return Observed(None, version)
        return Observed(traffic, version)

    def write(self, traffic: Traffic, revision: str) -> None:
        """Edits the text that the latest `read` saw; `revision` must be of that one."""
        if self._service.get("metadata", {}).get("resourceVersion") != revision:
            raise Conflict("the RayService was read again since")
        body: Object = {
            "metadata": {"resourceVersion": revision},
            "spec": {"serveConfigV2": write_traffic(self._text, traffic)},
        }
        self._service = self._cluster.patch(RAY_SERVICES, self._namespace, self._name, body)

    def load(self) -> Record | None:
        try:
            item = self._cluster.get(CONFIG_MAPS, self._namespace, self._record)
        except NotFound:
            return None
        return Record(from_json(item.get("data", {}).get(KEY, "")), item["metadata"]["resourceVersion"])

    def save(self, rollout: Rollout, revision: str | None) -> None:
        data = {KEY: to_json(rollout)}
        if revision is not None:
            patch = {"metadata": {"resourceVersion": revision}, "data": data}
            self._cluster.patch(CONFIG_MAPS, self._namespace, self._record, patch)
            return
        metadata = {
            "name": self._record,
            "namespace": self._namespace,
            "labels": {LABEL: self._name, "app.kubernetes.io/managed-by": "marquee"},
            "ownerReferences": [self._owner()],
        }
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        self._cluster.create(CONFIG_MAPS, self._namespace, body)

    def announce(self, rollout: Rollout) -> None:
        """An Event whose name is the decision's, so that the API server itself refuses a second one."""
        state = rollout.state
        body = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {
                "name": f"{self._name}.{rollout.plan.id}.{state.decision}",
                "namespace": self._namespace,
            },
            "eventTime": datetime.fromtimestamp(state.decided, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": CONTROLLER,
            "reportingInstance": rollout.plan.id,
            "action": state.action,
            "reason": state.action,
            "note": state.message.encode()[:NOTE].decode(errors="ignore"),
            "type": "Warning" if state.action in WARNINGS else "Normal",
            "regarding": self._reference(),
        }
        try:
            self._cluster.create(EVENTS, self._namespace, body)
        except Conflict:
            return

    def wait(self, seconds: float) -> None:
        """Wakes when the spec changes; a status that changes wakes nobody."""
        until = time.monotonic() + seconds
        generation = self._service.get("metadata", {}).get("generation")
        try:
            for _, item in self._cluster.watch(RAY_SERVICES, self._namespace, seconds):
                metadata = item["metadata"]
                if metadata["name"] == self._name and metadata.get("generation") != generation:
                    return
        except ControlError:
            pass  # who may not watch waits the time out
        time.sleep(max(0.0, until - time.monotonic()))

    @property
    def _record(self) -> str:
        return f"{self._name}-rollout"

    @property
    def _text(self) -> str:
        return str(self._service.get("spec", {}).get("serveConfigV2", ""))

    def _reference(self) -> Object:
        if not self._service:
            self._service = self._cluster.get(RAY_SERVICES, self._namespace, self._name)
        metadata = self._service["metadata"]
        return {
            "apiVersion": RAY_SERVICES.api_version,
            "kind": RAY_SERVICES.kind,
            "name": self._name,
            "namespace": self._namespace,
            "uid": metadata.get("uid", ""),
            "resourceVersion": metadata["resourceVersion"],
        }

    def _owner(self) -> Object:
        """With the RayService its record goes."""
        reference = self._reference()
        return {key: reference[key] for key in ("apiVersion", "kind", "name", "uid")}


def rollouts(cluster: Cluster, namespace: str) -> list[str]:
    """Names of the RayServices that have a record."""
    found = cluster.list(CONFIG_MAPS, namespace, LABEL)
    labels = [item["metadata"].get("labels", {}) for item in found]
    return sorted(one[LABEL] for one in labels if LABEL in one)
