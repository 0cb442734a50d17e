"""From `helm install` on nothing to a personal answer, with nobody's help; what is waited for is said.

The module's release is the one that trainings are tested on, too (`test_training`).
"""

from __future__ import annotations

import time

import pytest

from tests.cluster.bootstrapped import SETTINGS, WHOLE_S, in_store, jobs, log, status, wanted
from tests.cluster.conftest import temporary_namespace
from tests.cluster.kube import items, kubectl, until
from tests.cluster.release import HelmError, Release

SAID_S = 300.0
"""Seconds until something is seen that takes seconds on a machine with nothing else to do."""


@pytest.fixture(scope="module")
def first_bundle(bootstrapped: Release) -> str:
    """The bundle that came into service, and how long each step took, printed."""
    began = time.monotonic()
    [(bundle, weight)] = until("traffic", lambda: wanted(bootstrapped), WHOLE_S)
    until("a personal answer", lambda: bootstrapped.helm("test", bootstrapped.name), SAID_S)
    [job] = jobs(bootstrapped)
    print(f"personal after {time.monotonic() - began:.0f} s more\n" + log(bootstrapped, job))
    assert weight == 100
    return bundle


def test_what_is_waited_for_is_said_and_a_killed_step_goes_on(bootstrapped: Release) -> None:
    """The test after this one sees that it ends all the same."""
    namespace = bootstrapped.namespace

    def running() -> list[str]:
        """Names of the Job's pods that run; the Job's own word, where it is complete already."""
        pods = [one for one in bootstrapped.pods("bootstrap") if one["status"]["phase"] == "Running"]
        return [one["metadata"]["name"] for one in pods] or [
            name for name, done in jobs(bootstrapped).items() if done
        ]

    said = [one for one in status(namespace)["waits"] if "bootstrap" in one]
    assert said or all(jobs(bootstrapped).values())
    [name, *_] = until("its first pod", running, SAID_S)
    if name not in jobs(bootstrapped):
        kubectl("--namespace", namespace, "delete", "pod", name, "--grace-period=0", "--force")


def test_it_ends_with_a_personal_answer_from_a_whole_bundle(bootstrapped: Release, first_bundle: str) -> None:
    assert in_store(bootstrapped) == {first_bundle.rpartition("/")[2]}
    assert list(jobs(bootstrapped).values()) == [True]
    assert not [one for one in status(bootstrapped.namespace)["waits"] if "bootstrap" in one]


def test_an_upgrade_runs_it_again_and_moves_nothing(bootstrapped: Release, first_bundle: str) -> None:
    before = set(jobs(bootstrapped))
    bootstrapped.upgrade(*SETTINGS, "bootstrap.backoffLimit=4", wait=False)

    def done() -> str:
        """The name of the new Job, once it is complete and the old one is gone."""
        found = jobs(bootstrapped)
        return next(iter(found)) if all(found.values()) and set(found) != before and len(found) == 1 else ""

    job = until("the Job of the upgrade", done, WHOLE_S)
    assert f"bundle {first_bundle} is in service" in log(bootstrapped, job)
    assert wanted(bootstrapped) == [(first_bundle, 100)]
    assert in_store(bootstrapped) == {first_bundle.rpartition("/")[2]}


def test_a_redis_without_features_fails_the_test_in_words_and_is_filled_again(
    bootstrapped: Release, first_bundle: str
) -> None:
    namespace = bootstrapped.namespace
    forget = ["valkey-cli", "del", "marquee:materialized", "marquee:known_user"]  # Ray's state is there, too
    [redis] = bootstrapped.pods("redis")
    kubectl("--namespace", namespace, "exec", redis["metadata"]["name"], "--", *forget)
    with pytest.raises(HelmError):
        bootstrapped.helm("test", bootstrapped.name)
    said = kubectl("--namespace", namespace, "logs", f"{bootstrapped.name}-test")
    assert "Redis holds no features yet" in said
    kubectl("--namespace", namespace, "delete", "job", "--all")
    bootstrapped.upgrade(*SETTINGS, "bootstrap.backoffLimit=5", wait=False)
    until("a personal answer", lambda: bootstrapped.helm("test", bootstrapped.name), WHOLE_S)
    assert wanted(bootstrapped) == [(first_bundle, 100)]


def test_an_image_that_cannot_be_pulled_is_named() -> None:
    with temporary_namespace("no-image") as namespace:
        settings = (
            *SETTINGS,
            "image.tag=not-there",
            "bootstrap.datasetClaim=",
            "bootstrap.dataset=synthetic",
        )
        Release(namespace).install(*settings, wait=False)

        def said() -> list[str]:
            waits = status(namespace)["waits"]
            return [one for one in waits if "bootstrap" in one and "not-there cannot be pulled" in one]

        assert until("a word about the image", said, SAID_S)


def test_pods_that_ask_for_gpus_are_placed_where_gpus_are() -> None:
    def gpus(node: dict[str, object]) -> int:
        return int(node["status"]["allocatable"].get("nvidia.com/gpu", 0))  # type: ignore[index]  # JSON

    nodes = {one["metadata"]["name"] for one in items("nodes", "default") if gpus(one)}
    if not nodes:
        pytest.skip("no node of this cluster has allocatable nvidia.com/gpu")
    with temporary_namespace("gpu") as namespace:
        gpu = ("workers.gpu.enabled=true", "workers.gpu.minReplicas=1", "workers.gpu.maxReplicas=1",
               "workers.gpu.podDisruptionBudget.enabled=false", "workers.gpu.resources.requests.cpu=100m",
               "workers.gpu.resources.requests.memory=256Mi", "workers.gpu.resources.limits.memory=256Mi",
               "replicas.groups.accelerated.stages={retrieval,ranking}",
               "replicas.groups.accelerated.num_gpus=1", "replicas.groups.accelerated.runtime=torch",
               "workers.gpu.nodeSelector=null")  # fmt: skip
        release = Release(namespace)
        release.install(*SETTINGS, *gpu, wait=False)

        def placed() -> list[str]:
            return [one["spec"].get("nodeName", "") for one in release.pods("worker-gpu")]

        assert set(until("a place for GPU workers", lambda: all(placed()) and placed(), SAID_S)) <= nodes
