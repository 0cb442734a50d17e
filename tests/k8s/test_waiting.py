"""A namespace says what it waits for: the bootstrap and its last line, pods that cannot do their work."""

from __future__ import annotations

from typing import Any

import pytest

from k8s.client import JOBS, PODS, Object
from k8s.waiting import phase, waits
from tests.k8s.apiserver import Served

JOB = "marquee-bootstrap-0a1b2c3d"
LABELS = {"app.kubernetes.io/component": "bootstrap"}


def condition(kind: str, reason: str = "") -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": "True", "reason": reason}]}


def put(kubernetes: Served, status: dict[str, Any], pod_phase: str = "Running", **pod: Any) -> list[Object]:
    """The bootstrap Job with that status, and its pod; the pods of the namespace."""
    kubernetes.put(JOBS, JOB, {"metadata": {"labels": LABELS}, "status": status})
    labels = LABELS | {"batch.kubernetes.io/job-name": JOB}
    kubernetes.put(PODS, "p", {"metadata": {"labels": labels}, "status": {"phase": pod_phase} | pod})
    return kubernetes.cluster().list(PODS, "prod")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"active": 1}, "runs"),
        ({"active": 1, "failed": 1}, "runs, 1 try failed"),
        ({"failed": 2}, "has no pod yet, 2 tries failed"),
        ({}, "has no pod yet"),
        (condition("Failed", "BackoffLimitExceeded"), "failed (BackoffLimitExceeded)"),
        (condition("Complete"), "complete"),
    ],
)
def test_what_a_job_does(status: dict[str, Any], said: str) -> None:
    assert phase({"status": status}) == said


def test_a_bootstrap_says_its_last_line(kubernetes: Served) -> None:
    pods = put(kubernetes, {"active": 1})
    kubernetes.api["get /api/v1/namespaces/prod/pods/p/log"] << b"bootstrap: step 3 of 5: train\n"
    assert waits(kubernetes.cluster(), "prod", pods) == (f"Job {JOB} runs: bootstrap: step 3 of 5: train",)


def test_one_that_failed_says_why(kubernetes: Served) -> None:
    killed = {"name": "marquee", "state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}
    pods = put(kubernetes, condition("Failed", "BackoffLimitExceeded"), "Failed", containerStatuses=[killed])
    kubernetes.api["get /api/v1/namespaces/prod/pods/p/log"] << b"[1:00] train\n"
    [line] = waits(kubernetes.cluster(), "prod", pods)
    assert line.startswith(
        f"Job {JOB} failed (BackoffLimitExceeded): container marquee was killed at its memory"
    )
    assert "raise bootstrap.resources.limits.memory; [1:00] train" in line


def test_when_it_is_done_there_is_nothing_to_say(kubernetes: Served) -> None:
    pods = put(kubernetes, condition("Complete"), "Succeeded")
    assert waits(kubernetes.cluster(), "prod", pods) == ()


def test_a_pod_whose_image_cannot_be_pulled_is_named(kubernetes: Served) -> None:
    state = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
    status = {"phase": "Pending", "containerStatuses": [{"name": "ray", "image": "shop/m:9", "state": state}]}
    kubernetes.put(PODS, "w", {"status": status})
    pods = kubernetes.cluster().list(PODS, "prod")
    assert waits(kubernetes.cluster(), "prod", pods) == (
        "pod w: image shop/m:9 cannot be pulled (ErrImagePull): not found",
    )
