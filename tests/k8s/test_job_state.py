"""A training that waits or failed says why: troubles of pods, warnings of KubeRay, the error in its log."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8s import job_follow
from k8s.client import EVENTS, PODS, RAY_JOBS
from k8s.job_follow import following
from k8s.job_state import explained, reason
from k8s.jobs import JobError, logs
from tests.k8s.apiserver import Served

ERROR = "error training workers failed: worker 1 in pod w-1 (memory limit 2 GiB) ran out of memory: raise it"
RAYS = "Job entrypoint command failed with exit code 1, last available logs (truncated to 20,000 chars):\n"


def job(deployment: str, message: str = "", status: str = "") -> dict[str, Any]:
    said = {"jobDeploymentStatus": deployment, "jobStatus": status, "message": message, "rayClusterName": "c"}
    return {"metadata": {"name": "job"}, "status": said}


def pending(image: str) -> dict[str, Any]:
    state = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    return {
        "metadata": {"name": "w-1", "labels": {"ray.io/cluster": "c"}},
        "status": {"containerStatuses": [{"name": "ray", "image": image, "state": state}]},
    }


def test_one_that_initializes_says_what_its_pods_wait_for() -> None:
    said = explained(job("Initializing"), [pending("shop/marquee:9")], []).message
    assert said == "pod w-1: image shop/marquee:9 cannot be pulled (ImagePullBackOff): no such image"


def test_without_trouble_of_pods_kuberays_warning_is_shown() -> None:
    warning = {
        "type": "Warning",
        "reason": "FailedToSubmit",
        "note": "no port is named dashboard",
        "regarding": {"name": "job"},
        "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
    }
    assert (
        explained(job("Initializing"), [], [warning]).message == "FailedToSubmit: no port is named dashboard"
    )
    assert explained(job("Complete", "done", "SUCCEEDED"), [], [warning]).message == ""


def test_a_pod_over_its_limit_explains_a_failure() -> None:
    killed = pending("")
    ended = {"reason": "OOMKilled", "exitCode": 137}
    killed["status"]["containerStatuses"][0] |= {"state": {}, "lastState": {"terminated": ended}}
    said = explained(job("Failed", f"{RAYS}{ERROR}", "FAILED"), [killed], []).message
    assert "pod w-1: container ray was killed at its memory limit (OOMKilled): raise" in said
    assert said.endswith("ran out of memory: raise it")


@given(log=st.lists(st.text(max_size=80), max_size=5), cut=st.integers(0, 60), colour=st.booleans())
def test_the_error_is_found_wherever_ray_cut_the_log(log: list[str], cut: int, colour: bool) -> None:
    line = f"\x1b[31merror\x1b[0m{ERROR.removeprefix('error')}" if colour else ERROR
    text = "\n".join([*(each for each in log if "error " not in each), line])
    longer = f"{'x' * 60}begun in the middle\n{text}"
    assert reason(f"{RAYS}{longer[cut:]}") == ERROR.removeprefix("error ")


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (f"{RAYS}dle of a word\nKilled\n", "Job entrypoint command failed with exit code 1: Killed"),
        (f"{RAYS}dle of a word", "Job entrypoint command failed with exit code 1"),
        (RAYS, "Job entrypoint command failed with exit code 1"),
        ("the job has passed its deadline", "the job has passed its deadline"),
        ("", ""),
    ],
)
def test_without_one_rays_own_sentence_and_whole_lines(message: str, said: str) -> None:
    assert reason(message) == said


def test_no_log_says_what_is_waited_for(kubernetes: Served) -> None:
    kubernetes.put(RAY_JOBS, "job", {"spec": {}, **job("Initializing")})
    kubernetes.put(PODS, "w-1", pending("shop/marquee:9"))
    kubernetes.put(EVENTS, "e", {"type": "Normal"})
    with pytest.raises(JobError, match=r"job has no log yet \(it is Initializing, pod w-1: image shop"):
        logs(kubernetes.cluster(), "prod", "job", follow=False, tail=None)


def test_followed_it_shows_what_it_waits_for_its_log_and_its_end(
    kubernetes: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = kubernetes.cluster()
    kubernetes.put(RAY_JOBS, "job", {"spec": {}, **job("Initializing")})
    kubernetes.put(PODS, "w-1", pending("shop/marquee:9"))
    said: list[str] = []

    def later(_: float) -> None:
        if len(said) == 1:
            cluster.delete(PODS, "prod", "w-1")
            cluster.delete(RAY_JOBS, "prod", "job")
            kubernetes.put(RAY_JOBS, "job", {"spec": {}, **job("Running")})
            labels = {"batch.kubernetes.io/job-name": "job"}
            kubernetes.put(PODS, "s", {"metadata": {"labels": labels}, "status": {"phase": "Running"}})
            kubernetes.api["get /api/v1/namespaces/prod/pods/s/log"] << b"epoch 1\nepoch 2\n"
        else:
            cluster.delete(RAY_JOBS, "prod", "job")
            kubernetes.put(RAY_JOBS, "job", {"spec": {}, **job("Failed", f"{RAYS}{ERROR}", "FAILED")})

    monkeypatch.setattr(job_follow.time, "sleep", later)
    ended = following(cluster, "prod", "job", said.append)
    assert "Initializing: pod w-1: image shop/marquee:9 cannot be pulled" in said[0]
    assert said[1:] == ["job is Running", "epoch 1", "epoch 2"]
    assert (ended.over, ended.good) == (True, False)
    assert ended.message == ERROR.removeprefix("error ")
