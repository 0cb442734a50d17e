"""What a namespace waits for: the bootstrap Job and how far it is, pods that something keeps from their work.

Does not belong here: what is wrong with one pod (`k8s.trouble`), whether replicas have their bundle
(`k8s.status`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from k8s.client import EVENTS, JOBS, Cluster, Object, Objects
from k8s.errors import ControlError, Forbidden
from k8s.job_state import SUBMITTED_BY
from k8s.trouble import COMPONENT, short, trouble

BOOTSTRAP = "bootstrap"


def waits(cluster: Cluster, namespace: str, pods: Iterable[Object]) -> tuple[str, ...]:
    """A line each; none where all is well. Of a bootstrap Job there is a line until it is complete.

    Args:
        pods: of the namespace.
    """
    pods = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    return (*_bootstraps(cluster, namespace, pods), *_troubles(pods, _events(cluster, namespace)))


def _bootstraps(cluster: Cluster, namespace: str, pods: Objects) -> Iterator[str]:
    try:
        found = cluster.list(JOBS, namespace, f"{COMPONENT}={BOOTSTRAP}")
    except Forbidden:
        return
    for job in found:
        if job["metadata"].get("labels", {}).get(COMPONENT) != BOOTSTRAP:
            continue
        state = phase(job)
        if state != "complete":
            name = job["metadata"]["name"]
            said = "; ".join(filter(None, _newest(cluster, namespace, name, pods)))
            yield f"Job {name} {state}{f': {said}' if said else ''}"


def phase(job: Object) -> str:
    """What a Job (batch/v1) does, in a word or two."""
    for one in job.get("status", {}).get("conditions", []):
        if one.get("status") == "True" and one.get("type") in ("Complete", "Failed"):
            why = f" ({one['reason']})" if one["type"] == "Failed" and one.get("reason") else ""
            return f"{one['type'].lower()}{why}"
    failed = job.get("status", {}).get("failed", 0)
    again = f", {failed} {'try' if failed == 1 else 'tries'} failed" if failed else ""
    return f"runs{again}" if job.get("status", {}).get("active") else f"has no pod yet{again}"


def _newest(cluster: Cluster, namespace: str, job: str, pods: Objects) -> tuple[str, ...]:
    """What is wrong with its newest pod, and the last line of that one's log."""
    mine = [pod for pod in pods if pod["metadata"].get("labels", {}).get(SUBMITTED_BY) == job]
    if not mine:
        return ()
    newest = max(mine, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
    try:
        lines = list(cluster.log(namespace, newest["metadata"]["name"], follow=False, tail=1, seconds=0))
    except ControlError:  # its container does not run yet, or one may not ask
        lines = []
    ended = trouble(newest) if newest.get("status", {}).get("phase") == "Failed" else ""
    return (ended, short(lines[-1]) if lines else "")


def _troubles(pods: Objects, events: Objects) -> Iterator[str]:
    for pod in pods:
        over = (
            ("Succeeded", "Failed") if SUBMITTED_BY in pod["metadata"].get("labels", {}) else ("Succeeded",)
        )
        if pod.get("status", {}).get("phase") not in over and (said := trouble(pod, events)):
            yield f"pod {pod['metadata']['name']}: {said}"


def _events(cluster: Cluster, namespace: str) -> Objects:
    try:
        return cluster.list(EVENTS, namespace)
    except Forbidden:
        return []
