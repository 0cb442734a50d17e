"""What keeps a pod from doing its work, in words that say what to do: an image that cannot be pulled, no node
with room, a memory limit that was reached, a volume that cannot be mounted.

Does not belong here: how it is shown (`k8s.cluster_cli`, `k8s.train_cli`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from k8s.client import Object

COMPONENT, NODE_TYPE = "app.kubernetes.io/component", "ray.io/node-type"

VALUES = {
    # component of the chart: where its values are
    "head": "head",
    "worker-cpu": "workers.cpu",
    "worker-gpu": "workers.gpu",
    "redis": "redis.internal",
    "bootstrap": "bootstrap",
    "materialize": "materialize",
    "retrain": "retrain",
    "controller": "controller",
    "loadtest": "loadtest",
    "train": "retrain.worker",
}

PULLING = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
STARTING = ("ContainerCreating", "PodInitializing")
WAITS = "FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"
"""Reasons of events that explain a pod which stays at `STARTING`."""

LONGEST = 400
"""Characters of a message of Kubernetes' own; whole words of it."""


def trouble(pod: Object, events: Iterable[Object] = ()) -> str:
    """One sentence without the pod's name; empty where nothing is known to be wrong.

    Args:
        events: of the namespace (events.k8s.io/v1); read for pods that wait for a volume.
    """
    status = pod.get("status", {})
    if status.get("reason") == "Evicted":
        return f"evicted: {short(status.get('message', ''))}"
    found = next(_of_containers(pod), "") or _unplaced(status)
    if not found and _starting(status):
        found = _waited_for(pod, events)
    return found


def short(text: str) -> str:
    """The text in one line, cut between words where it is long."""
    line = " ".join(str(text).split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST].rsplit(' ', 1)[0]} …"


def _of_containers(pod: Object) -> Iterator[str]:
    status = pod.get("status", {})
    for one in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        waiting = one.get("state", {}).get("waiting", {})
        ended = one.get("state", {}).get("terminated") or one.get("lastState", {}).get("terminated") or {}
        reason, name = waiting.get("reason", ""), one.get("name", "")
        if ended.get("reason") == "OOMKilled":
            yield _over_memory(pod, name)
        elif reason in PULLING:
            said = short(waiting.get("message", ""))
            yield f"image {one.get('image', '')} cannot be pulled ({reason}): {said}"
        elif reason and reason not in STARTING:
            code = f", its last try ended with exit status {ended['exitCode']}" if "exitCode" in ended else ""
            yield f"container {name} waits ({reason}){code}: {short(waiting.get('message', ''))}"
        elif ended.get("exitCode") and not one.get("ready"):
            cause = ended.get("reason", "Error")
            yield f"container {name} ended with exit status {ended['exitCode']} ({cause})"


def _over_memory(pod: Object, container: str) -> str:
    spec = next((one for one in _containers(pod) if one["name"] == container), {})
    limit = spec.get("resources", {}).get("limits", {}).get("memory", "")
    return (
        f"container {container} was killed at its memory limit{f' of {limit}' if limit else ''} (OOMKilled): "
        f"raise {memory_value(pod, container)}"
    )


def memory_value(pod: Object, container: str) -> str:
    """The value of the chart by which the container gets more memory."""
    labels = pod["metadata"].get("labels", {})
    component = labels.get(COMPONENT, "")
    if container in ("exporter", "autoscaler"):
        where = {"exporter": "exporter", "autoscaler": "ray.autoscaler"}[container]
    elif component == "train" and labels.get(NODE_TYPE) == "head":
        where = "retrain.head"
    else:
        where = VALUES.get(component, "its")
    return f"{where}.resources.limits.memory"


def _containers(pod: Object) -> list[Object]:
    spec = pod.get("spec", {})
    return [*spec.get("initContainers", []), *spec.get("containers", [])]


def _unplaced(status: Object) -> str:
    for one in status.get("conditions", []):
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            return f"no node takes it ({one.get('reason', '')}): {short(one.get('message', ''))}"
    return ""


def _starting(status: Object) -> bool:
    found = (*status.get("initContainerStatuses", []), *status.get("containerStatuses", []))
    return any(one.get("state", {}).get("waiting", {}).get("reason", "") in STARTING for one in found)


def _waited_for(pod: Object, events: Iterable[Object]) -> str:
    name = pod["metadata"]["name"]
    mine = [
        one for one in events if one.get("reason") in WAITS and one.get("regarding", {}).get("name") == name
    ]
    return f"{mine[-1]['reason']}: {short(mine[-1].get('note', ''))}" if mine else ""


def warnings_of(events: Iterable[Object], names: Iterable[str]) -> str:
    """The newest warning about one of these objects; empty where there is none."""
    wanted = set(names)
    mine = [
        one
        for one in events
        if one.get("type") == "Warning" and one.get("regarding", {}).get("name") in wanted
    ]
    mine.sort(key=_when)
    return f"{mine[-1].get('reason', '')}: {short(mine[-1].get('note', ''))}" if mine else ""


def _when(event: Object) -> str:
    """Times of one format, which compare as text."""
    series = event.get("series") or {}
    seen = series.get("lastObservedTime") or event.get("deprecatedLastTimestamp") or event.get("eventTime")
    return str(seen or event["metadata"].get("creationTimestamp", ""))
