"""Every verb of Helm and kubectl on a release that serves 20 requests/s: unforced, and nobody notices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cluster.bundles import USERS
from tests.cluster.client import Count
from tests.cluster.conftest import SMALL, Living
from tests.cluster.kube import Object, kubectl, read, ready, until
from tests.cluster.lives import (
    SETTLED_S,
    bounds,
    clusters,
    lacks_image,
    owners_of_spec,
    serving,
    settled,
    whole,
    workers,
)
from tests.cluster.release import image

RATE = 20.0
"""Requests a second."""
GONE_S = 240.0
"""Seconds for a pod to end (two minutes at most) and another to be ready in its place on a busy machine."""
CLAIM = "bundleStore.pvc.existingClaim=bundles"


@contextmanager
def unnoticed(living: Living) -> Iterator[Count]:
    """Load through the block; no request of it may fail."""
    with living.client.load(USERS, RATE) as count:
        yield count
    print(f"{count.failed} of {count.sent} failed: {count.failures}; {count.degraded} degraded")
    assert count.sent > RATE
    assert count.failures == {}


def replaced(living: Living, component: str, gone: Object) -> None:
    """Waits until a pod is ready in its place, and it is gone."""
    name, uid = gone["metadata"]["name"], gone["metadata"]["uid"]
    wanted = 2 if component == "worker-cpu" else 1

    def look() -> bool:
        pods = living.release.pods(component)
        return uid not in {pod["metadata"]["uid"] for pod in pods} and sum(map(ready, pods)) == wanted

    until(f"another pod in the place of {name}", look, GONE_S)


def test_nobody_but_helm_owns_what_helm_applies(living: Living) -> None:
    """KubeRay owned the workers of a RayService whose finalizer it had to add itself."""
    service = living.release.service()
    assert service["metadata"]["finalizers"] == ["ray.io/rayservice-finalizer"]
    assert owners_of_spec(living.release) == {"helm"}


def test_two_upgrades_and_a_rollback_need_no_force_and_reach_the_running_cluster(living: Living) -> None:
    release = living.release
    running = serving(release)
    revision = int(json.loads(release.helm("history", release.name, "--output=json"))[-1]["revision"])
    with unnoticed(living):
        release.upgrade(*SMALL, CLAIM, "workers.cpu.maxReplicas=3", wait=False)
        until("the first upgrade's bounds", lambda: bounds(release) == {(2, 3)}, SETTLED_S)
        release.upgrade(*SMALL, CLAIM, "workers.cpu.maxReplicas=4", wait=False)
        until("the second's", lambda: bounds(release) == {(2, 4)}, SETTLED_S)
        release.rollback(revision, wait=False)
        until("those before", lambda: bounds(release) == {(2, 2)}, SETTLED_S)
    assert [each["metadata"]["name"] for each in clusters(release)] == [running], "no new cluster was needed"


def test_a_stage_that_needs_more_gets_it_and_gives_it_back(living: Living) -> None:
    release = living.release
    more = ["workers.cpu.maxReplicas=3"]
    more += [f"replicas.ingress.autoscaling_config.{each}_replicas=3" for each in ("min", "max")]
    with unnoticed(living):
        release.upgrade(*SMALL, CLAIM, *more, wait=False)
        settled(release, 3)
        release.upgrade(*SMALL, CLAIM, wait=False)
        until("two bounds", lambda: bounds(release) == {(2, 2)}, SETTLED_S)
        settled(release, 2)


@pytest.mark.parametrize("component", ["worker-cpu", "head", "redis"])
def test_a_pod_that_is_deleted_is_missed_by_nobody(living: Living, component: str) -> None:
    whole(living.release, 2)
    [pod, *_] = living.release.staying(component)
    with unnoticed(living):
        kubectl(
            "--namespace", living.release.namespace, "delete", "pod", pod["metadata"]["name"], "--wait=false"
        )
        replaced(living, component, pod)


def drained(living: Living, pod: Object) -> None:
    """Drains the pod's node, of the workers alone: the node may be others', too."""
    node = pod["spec"]["nodeName"]
    ours = f"app.kubernetes.io/instance={living.release.name},app.kubernetes.io/component=worker-cpu"
    drain = ["--pod-selector", ours, "--delete-emptydir-data", "--force", f"--timeout={GONE_S:.0f}s"]
    try:
        kubectl("drain", node, *drain, timeout_s=GONE_S + 30)
    finally:
        kubectl("uncordon", node)


def test_a_node_is_drained_of_its_worker_under_load(living: Living) -> None:
    whole(living.release, 2)
    [pod, *_] = workers(living.release)
    with unnoticed(living):
        drained(living, pod)
        replaced(living, "worker-cpu", pod)


def test_a_worker_that_has_no_replica_hinders_nobody(living: Living) -> None:
    """It is not Ready, so that it is sent no request, and a drain does not wait for it."""
    release = living.release
    one = [f"replicas.ingress.autoscaling_config.{each}_replicas=1" for each in ("min", "max")]
    with unnoticed(living):
        release.upgrade(*SMALL, CLAIM, *one, wait=False)
        settled(release, 1)
        [idle] = [pod for pod in release.pods("worker-cpu") if not ready(pod)]
        drained(living, idle)
        release.upgrade(*SMALL, CLAIM, wait=False)
        settled(release, 2)


def test_a_bad_image_takes_nothing_away_and_one_leaves_it_again(living: Living) -> None:
    release = living.release
    before = serving(release)
    with unnoticed(living):
        release.upgrade(*SMALL, CLAIM, "image.tag=nonsense", wait=False)
        until("a second cluster", lambda: len(clusters(release)) == 2, SETTLED_S)
        until("a pod whose image is not there", lambda: lacks_image(release), SETTLED_S)
        assert serving(release) == before
        release.upgrade(*SMALL, CLAIM, wait=False)
        settled(release, 2)  # the one before, or the second with an image that is there
    status = read("rayservice", release.namespace, release.name)["status"]
    upgrading = {each["type"]: each["status"] for each in status["conditions"]}["UpgradeInProgress"]
    assert upgrading == "False"


def test_an_upgrade_that_needs_new_pods_is_noticed_by_nobody(living: Living) -> None:
    """A second cluster comes beside the first, takes over, and the first goes."""
    release = living.release
    before = serving(release)
    with unnoticed(living):
        release.upgrade(*SMALL, CLAIM, "head.podAnnotations.changed=yes", wait=False)
        until("another cluster", lambda: serving(release) not in ("", before), SETTLED_S)
        assert settled(release, 2) != before
    assert (
        image()[1]
        in read("rayservice", release.namespace, release.name)["spec"]["rayClusterConfig"]["headGroupSpec"][
            "template"
        ]["spec"]["containers"][0]["image"]
    )
