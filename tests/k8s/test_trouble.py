"""What is wrong with a pod is said in words: which container, which limit, which value to raise."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8s.trouble import LONGEST, short, trouble, warnings_of


def pod(component: str = "train", node: str = "worker", **status: Any) -> dict[str, Any]:
    labels = {"app.kubernetes.io/component": component, "ray.io/node-type": node}
    container = {"name": "ray", "resources": {"limits": {"memory": "2Gi"}}}
    exporter = {"name": "exporter", "resources": {"limits": {"memory": "128Mi"}}}
    spec = {"containers": [container], "initContainers": [exporter]}
    return {"metadata": {"name": "pod-1", "labels": labels}, "spec": spec, "status": status}


def container(state: dict[str, Any], name: str = "ray", **more: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": name, "image": "shop/marquee:9", "state": state, **more}]}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return container({"waiting": {"reason": reason, "message": message}})


OOM = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}


def test_a_pod_that_is_well_has_none() -> None:
    assert trouble(pod(**container({"running": {}}, ready=True))) == ""
    assert trouble(pod(phase="Pending")) == ""


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"])
def test_an_image_that_cannot_be_pulled_is_named(reason: str) -> None:
    said = trouble(pod(**waiting(reason, "not found")))
    assert said == f"image shop/marquee:9 cannot be pulled ({reason}): not found"


@pytest.mark.parametrize(
    ("component", "node", "name", "value"),
    [
        ("train", "worker", "ray", "retrain.worker.resources.limits.memory"),
        ("train", "head", "ray", "retrain.head.resources.limits.memory"),
        ("worker-cpu", "worker", "ray", "workers.cpu.resources.limits.memory"),
        ("worker-cpu", "worker", "exporter", "exporter.resources.limits.memory"),
        ("bootstrap", "", "ray", "bootstrap.resources.limits.memory"),
        ("redis", "", "ray", "redis.internal.resources.limits.memory"),
    ],
)
@pytest.mark.parametrize("at", ["state", "lastState"])
def test_a_limit_that_was_reached_names_the_value_to_raise(
    component: str, node: str, name: str, value: str, at: str
) -> None:
    status = {"containerStatuses": [{"name": name, "state": {"running": {}}} | {at: OOM}]}
    said = trouble(pod(component, node, **status))
    limit = "128Mi" if name == "exporter" else "2Gi"
    assert said == f"container {name} was killed at its memory limit of {limit} (OOMKilled): raise {value}"


def test_a_pod_that_no_node_takes_says_what_the_scheduler_says() -> None:
    message = "0/3 nodes are available: 3 Insufficient cpu."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    assert trouble(pod(conditions=[condition])) == f"no node takes it (Unschedulable): {message}"


def test_a_volume_that_cannot_be_mounted_is_found_in_events() -> None:
    events = [
        {"reason": "FailedMount", "regarding": {"name": "other"}, "note": "no"},
        {"reason": "FailedAttachVolume", "regarding": {"name": "pod-1"}, "note": "Multi-Attach error"},
        {"reason": "Scheduled", "regarding": {"name": "pod-1"}, "note": "assigned"},
    ]
    starting = pod(**waiting("ContainerCreating"))
    assert trouble(starting, events) == "FailedAttachVolume: Multi-Attach error"
    assert trouble(starting) == ""


def test_a_crash_and_an_eviction() -> None:
    status = container({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}, lastState={
        "terminated": {"exitCode": 2}})  # fmt: skip
    assert "waits (CrashLoopBackOff), its last try ended with exit status 2: back-off" in trouble(
        pod(**status)
    )
    assert trouble(pod(reason="Evicted", message="disk")) == "evicted: disk"
    ended = container({"terminated": {"exitCode": 1, "reason": "Error"}}, ready=False)
    assert trouble(pod(**ended)) == "container ray ended with exit status 1 (Error)"


def test_the_newest_warning_of_an_object() -> None:
    def event(name: str, kind: str, minute: int) -> dict[str, Any]:
        return {
            "type": kind,
            "reason": f"R{minute}",
            "note": "n",
            "regarding": {"name": name},
            "metadata": {},
            "deprecatedLastTimestamp": f"2026-01-01T00:0{minute}:00Z",
        }

    events = [
        event("a", "Warning", 3),
        event("a", "Warning", 1),
        event("a", "Normal", 4),
        event("b", "Warning", 5),
    ]
    assert warnings_of(events, ["a"]) == "R3: n"
    assert warnings_of(events, ["c"]) == ""


@given(st.text(max_size=2_000))
def test_a_long_message_is_cut_between_words(text: str) -> None:
    said = short(text)
    assert len(said) <= LONGEST + 2
    assert " ".join(text.split()).startswith(said.removesuffix(" …"))
