"""A rollout's target on Kubernetes: the traffic object of a RayService and what its replicas say of it, the
record in a ConfigMap beside it, the decisions as Events on the RayService.

Does not belong here: the API's transport (`k8s.client`), the traffic object's form (`k8s.traffic_object`).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from k8s.client import CONFIG_MAPS, EVENTS, RAY_SERVICES, Cluster, Object
from k8s.errors import Conflict, ControlError, NotFound
from k8s.plan import Rollout, from_json, to_json
from k8s.reports import Reports, read_reports, serving_pods
from k8s.rollout import Action, describe
from k8s.target import Observed, Record
from k8s.traffic_object import LABEL, Kept, TrafficObject
from serving.config import Traffic

CONTROLLER = "marquee.dev/rollout"

KEY = "rollout.json"
NOTE = 1_024
"""Bytes an Event's note may have (events.k8s.io/v1)."""

WARNINGS = (Action.ROLL_BACK, Action.STOP)

ABSENT = "absent"
"""The revision of a traffic object that is not there yet: a write makes it."""


class RayServiceTarget:
    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self._cluster, self._namespace, self._name = cluster, namespace, name
        self._object = TrafficObject(cluster, namespace, name)
        self._service: Object = {}
        self._pods: list[str] = []
        self._kept: Kept | None = None

    @property
    def name(self) -> str:
        return f"{self._namespace}/{self._name}"

    def read(self) -> Observed:
        """Where there is no traffic object yet, what the replicas agree on.

        Raises:
            NotFound: no such service, or neither an object nor a replica that serves.
        """
        reports = self._look()
        if (kept := self._kept) is None:
            if (traffic := reports.agreed()) is None:
                raise NotFound(self._nothing(reports))
            return Observed(traffic, ABSENT, reports.versions)
        behind = {} if kept.traffic is None else reports.behind(kept.traffic)
        refused = reports.refused
        return Observed(kept.traffic, kept.resource_version, reports.versions, refused, behind, kept.problem)

    def write(self, traffic: Traffic, revision: str) -> None:
        """Raises Conflict where `revision` is not of the latest `read`, or somebody has written since."""
        kept = self._kept
        if revision != (ABSENT if kept is None else kept.resource_version):
            raise Conflict("the traffic object was read again since")
        if kept is None:
            self._object.create(traffic, self._owner())
        else:
            self._object.replace(traffic, kept)
        self._object.nudge(self._pods)

    def hurry(self, behind: Mapping[str, str]) -> None:
        late = {who.partition("/")[0] for who in behind}
        self._object.nudge(pod for pod in self._pods if pod in late)

    def tend(self) -> str:
        """What there is to do while no rollout runs: makes the traffic object of what replicas agree on,
        shows it to pods that are behind, and tells in an Event what was refused.

        Returns:
            what is wrong, in words; empty where nothing is.
        """
        reports = self._look()
        if self._kept is None:
            if (agreed := reports.agreed()) is None:
                return self._nothing(reports)
            self._object.create(agreed, self._owner())
            return ""
        problem = self._kept.problem or "; ".join(
            f"{url or self._object.name} was refused by {reason}" for url, reason in reports.refused.items()
        )
        if self._kept.traffic is not None and (behind := reports.behind(self._kept.traffic)):
            self.hurry(behind)
        if problem:
            key = hashlib.sha256(f"{self._kept.resource_version} {problem}".encode()).hexdigest()[:12]
            self._event(f"refused.{key}", "traffic", "Refused", problem, time.time(), warning=True)
        return problem

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
        state = rollout.state
        name = f"{rollout.plan.id}.{state.decision}"
        warning = state.action in WARNINGS
        self._event(name, rollout.plan.id, state.action, state.message, state.decided, warning=warning)

    def wait(self, seconds: float) -> None:
        """Wakes when somebody writes the traffic object."""
        until = time.monotonic() + seconds
        version = None if self._kept is None else self._kept.resource_version
        try:
            for _, item in self._cluster.watch(
                CONFIG_MAPS, self._namespace, seconds, f"{LABEL}={self._name}"
            ):
                metadata = item["metadata"]
                if metadata["name"] == self._object.name and metadata["resourceVersion"] != version:
                    return
        except ControlError:
            pass  # who may not watch waits the time out
        time.sleep(max(0.0, until - time.monotonic()))

    def _look(self) -> Reports:
        self._service = self._cluster.get(RAY_SERVICES, self._namespace, self._name)
        self._kept = self._object.read()
        pods = serving_pods(self._cluster, self._namespace, self._service)
        self._pods = [pod["metadata"]["name"] for pod in pods]
        return read_reports(self._cluster, self._namespace, pods)

    def _nothing(self, reports: Reports) -> str:
        start = f"there is no traffic object {self._object.name} yet"
        tables = {describe(one.traffic) for one in reports.replicas if one.traffic is not None}
        if len(tables) > 1:
            return f"{start}, and replicas disagree: {'; '.join(sorted(tables))}"
        waiting = next((one.waiting for one in reports.replicas if one.waiting), "no replica serves a bundle")
        return f"{start}, and {waiting}; `marquee rollout first <bundle>` makes it"

    def _event(self, name: str, instance: str, reason: str, note: str, at: float, *, warning: bool) -> None:
        """An Event whose name is the decision's, so that the API server itself refuses a second one."""
        body = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": f"{self._name}.{name}", "namespace": self._namespace},
            "eventTime": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": CONTROLLER,
            "reportingInstance": instance,
            "action": reason,
            "reason": reason,
            "note": note.encode()[:NOTE].decode(errors="ignore"),
            "type": "Warning" if warning else "Normal",
            "regarding": self._reference(),
        }
        try:
            self._cluster.create(EVENTS, self._namespace, body)
        except Conflict:
            return

    @property
    def _record(self) -> str:
        return f"{self._name}-rollout"

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
        """With the RayService its record and its traffic go."""
        reference = self._reference()
        return {key: reference[key] for key in ("apiVersion", "kind", "name", "uid")}


def services(cluster: Cluster, namespace: str) -> list[str]:
    """Names of the RayServices of a namespace."""
    return sorted(item["metadata"]["name"] for item in cluster.list(RAY_SERVICES, namespace))
