"""`helm uninstall` ends by itself and leaves what holds data, and nothing else.

Last of the modules: it ends the release that they share.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from k8s.helm import helm
from tests.cluster.conftest import SMALL, Living, temporary_namespace
from tests.cluster.helm3 import helm3
from tests.cluster.kube import kubectl, until
from tests.cluster.lives import bounds, clusters, everything, left
from tests.cluster.release import Release

GONE_S = 300.0
"""Seconds for the deadline of the clean-up (90) and a worker's end (120), with room for a busy machine."""


@pytest.fixture(params=["helm-4", "helm-3"], scope="module")
def never_up(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """Installed with an image that is not there."""
    three = request.param == "helm-3"
    binary = helm3(tmp_path_factory.mktemp("helm3")) if three else str(helm())
    with temporary_namespace(request.param) as namespace:
        release = Release(namespace, binary=binary)
        release.install(*SMALL, "image.tag=nonsense", wait=False)
        until("its cluster", lambda: clusters(release), within_s=60)
        yield release


def test_each_helm_upgrades_twice_and_rolls_back_unforced(never_up: Release) -> None:
    """Also after kubectl has restarted what it can. That the cluster is not up costs no time."""
    restart = [f"deployment/{never_up.name}-controller", f"statefulset/{never_up.name}-redis"]
    kubectl("--namespace", never_up.namespace, "rollout", "restart", *restart)

    def allowed() -> set[int]:
        groups = never_up.service()["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        return {group["maxReplicas"] for group in groups}

    for most in (3, 4):
        never_up.upgrade(*SMALL, "image.tag=nonsense", f"workers.cpu.maxReplicas={most}", wait=False)
        assert allowed() == {most}
    never_up.rollback(1, wait=False)
    assert allowed() == {2}
    assert bounds(never_up) == {(2, 2)}


def test_what_never_came_up_goes_by_itself(never_up: Release) -> None:
    never_up.helm("uninstall", never_up.name)
    until("nothing left", lambda: not left(never_up), GONE_S)


def test_a_release_in_service_goes_by_itself_and_leaves_what_holds_data(living: Living) -> None:
    release = living.release
    assert len(left(release)) > 20
    release.helm("uninstall", release.name)
    until("nothing left", lambda: not left(release), GONE_S)
    assert f"PersistentVolumeClaim/data-{release.name}-redis-0" in everything(release)
