"""How a training on the cluster does: its state, and in words what it waits for or why it failed.

Does not belong here: what a training's RayJob is (`k8s.jobs`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from k8s.client import EVENTS, PODS, RAY_JOBS, Cluster, Object, Objects
from k8s.errors import Forbidden
from k8s.trouble import short, trouble, warnings_of

INSTANCE = "app.kubernetes.io/instance"
SUBMITTED_BY = "batch.kubernetes.io/job-name"
OF_CLUSTER = "ray.io/cluster"

OVER = ("Complete", "Failed")
"""KubeRay's last states of a RayJob."""

ERROR = re.compile(r"(?:\x1b\[[0-9;]*m)*error(?:\x1b\[[0-9;]*m)* +(.*)")
"""A line with which a command of Marquee ends (`features.console.fail`), with or without colours."""

LOGS = "last available logs"
"""Ray puts the end of the log behind these words into the message of a failed job, cut anywhere."""


@dataclass(frozen=True, slots=True)
class Job:
    """A RayJob: `status` is Ray's (RUNNING, ...), `deployment` KubeRay's (Initializing, Running, ...).

    Attributes:
        message: what it waits for, or why it failed; empty where all is well.
    """

    name: str
    status: str
    deployment: str
    message: str
    started: str
    ended: str

    @property
    def over(self) -> bool:
        return self.deployment in OVER

    @property
    def good(self) -> bool:
        return self.deployment == "Complete" and self.status == "SUCCEEDED"


def jobs(cluster: Cluster, namespace: str, release: str) -> list[Job]:
    """The release's trainings, newest first: those of `submit` and of the chart's CronJob."""
    found = cluster.list(RAY_JOBS, namespace, f"{INSTANCE}={release}")
    mine = [job for job in found if job["metadata"].get("labels", {}).get(INSTANCE) == release]
    mine.sort(key=lambda job: str(job["metadata"].get("creationTimestamp", "")), reverse=True)
    if not mine:
        return []
    pods, events = cluster.list(PODS, namespace), _events(cluster, namespace)
    return [explained(job, pods, events) for job in mine]


def look(cluster: Cluster, namespace: str, job: Object) -> Job:
    """How one RayJob does."""
    return explained(job, cluster.list(PODS, namespace), _events(cluster, namespace))


def explained(job: Object, pods: Iterable[Object], events: Objects) -> Job:
    """The job with a message that says what is wrong with its pods, where something is."""
    found = _job(job)
    if found.good:
        return replace(found, message="")
    name, of = found.name, job.get("status", {}).get("rayClusterName", "")
    mine = []
    for pod in pods:
        labels = pod["metadata"].get("labels", {})
        if (of and labels.get(OF_CLUSTER) == of) or labels.get(SUBMITTED_BY) == name:
            mine.append(pod)
    wrong = [f"pod {pod['metadata']['name']}: {said}" for pod in mine if (said := trouble(pod, events))]
    if found.over:
        # What the pods say of a limit explains what the training could only see as a peer that was gone.
        killed = [said for said in wrong if "OOMKilled" in said or "evicted" in said]
        return replace(found, message="; ".join([*killed, found.message] if found.message else killed))
    return replace(found, message="; ".join(wrong) or found.message or warnings_of(events, {name, of} - {""}))


def submitters(cluster: Cluster, namespace: str, name: str) -> Objects:
    """The pods that submitted the job; KubeRay names their Job like the RayJob."""
    found = cluster.list(PODS, namespace, f"{SUBMITTED_BY}={name}")
    return [pod for pod in found if pod["metadata"].get("labels", {}).get(SUBMITTED_BY) == name]


def _job(job: Object) -> Job:
    status = job.get("status", {})
    return Job(
        name=job["metadata"]["name"],
        status=status.get("jobStatus", ""),
        deployment=status.get("jobDeploymentStatus", ""),
        message=reason(status.get("message", "")) or status.get("reason", ""),
        started=status.get("startTime", ""),
        ended=status.get("endTime", ""),
    )


def reason(message: str) -> str:
    """Why a job failed, from what Ray says: the last line of its log that is an error of ours, else Ray's own
    sentence. The log in it may begin in the middle of a word, and so is never shown from its beginning."""
    lines = message.splitlines()
    errors = [found[1] for line in lines if (found := ERROR.fullmatch(line.strip()))]
    if errors:
        return short(errors[-1])
    said, cut, log = message.partition(LOGS)
    if not cut:
        return short(message)
    last = [line for line in log.splitlines()[1:] if line.strip()]
    sentence = short(said).rstrip(" ,:")
    return f"{sentence}: {short(last[-1])}" if len(last) > 1 else sentence


def _events(cluster: Cluster, namespace: str) -> Objects:
    """None where one may not ask: they only explain."""
    try:
        return cluster.list(EVENTS, namespace)
    except Forbidden:
        return []
