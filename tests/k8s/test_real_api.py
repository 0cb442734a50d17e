"""The controller against a real API server, where KUBEBUILDER_ASSETS names etcd and kube-apiserver: its 409,
its watches, and SIGKILL at every step. `test_rayservice` and `test_killed` hold the same against kmock."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from k8s import client
from k8s.client import CONFIG_MAPS, EVENTS, RAY_SERVICES, Cluster, Object
from k8s.errors import Conflict, NotFound
from k8s.operations import Wish, start
from k8s.plan import Phase, State, Step
from k8s.rayservice import RayServiceTarget
from serving.config import Traffic
from tests.envtest import api_server
from tests.k8s.apiserver import ray_service
from tests.k8s.loopback import FakePrometheus, running
from tests.k8s.test_killed import DEADLINE_S, controller, until
from tests.k8s.worlds import NEW, OLD, plan

ROOT = Path(__file__).resolve().parents[2]
CRD = ROOT.parent / "shared" / "crds" / "ray.io_rayservices.yaml"
NAMESPACE = "default"
ASSETS = os.environ.get("KUBEBUILDER_ASSETS")

pytestmark = [
    pytest.mark.skipif(not ASSETS, reason="KUBEBUILDER_ASSETS names no etcd and kube-apiserver"),
    pytest.mark.skipif(not CRD.exists(), reason=f"the schema of RayService is not at {CRD}"),
]


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    assert ASSETS is not None
    with api_server(Path(ASSETS), tmp_path_factory.mktemp("envtest")) as server:
        if why := server.apply_crds(CRD.parent).get("rayservices.ray.io"):
            pytest.skip(f"this server refuses RayService: {why}")
        yield server.kubeconfig


@pytest.fixture
def cluster(kubeconfig: Path) -> Iterator[Cluster]:
    found = Cluster.connect(str(kubeconfig))
    found.create(RAY_SERVICES, NAMESPACE, service())
    yield found
    found.delete(RAY_SERVICES, NAMESPACE, "marquee")
    with contextlib.suppress(NotFound):  # nobody collects garbage here
        found.delete(CONFIG_MAPS, NAMESPACE, "marquee-rollout")


def service() -> Object:
    body = ray_service()
    head = {"spec": {"containers": [{"name": "ray-head", "image": "none"}]}}
    body["spec"]["rayClusterConfig"] = {"headGroupSpec": {"rayStartParams": {}, "template": head}}
    return body


def touch(cluster: Cluster, note: str) -> None:
    body = {"metadata": {"annotations": {"note": note}}}
    cluster.patch(RAY_SERVICES, NAMESPACE, "marquee", body)


def test_a_write_on_an_old_view_is_a_conflict(cluster: Cluster) -> None:
    target = RayServiceTarget(cluster, NAMESPACE, "marquee")
    revision = target.read().revision
    touch(cluster, "somebody")
    with pytest.raises(Conflict):
        target.write(plan().at(0), revision)
    target.write(plan().at(0), target.read().revision)
    assert target.read().traffic == plan().at(0)


def test_an_event_is_told_once_and_regards_the_service(cluster: Cluster) -> None:
    target = RayServiceTarget(cluster, NAMESPACE, "marquee")
    rollout = start(target, Wish("canary", NEW, (Step(5, 60.0),), window_s=20.0))
    target.announce(rollout)
    target.announce(rollout)
    events = [
        event for event in cluster.list(EVENTS, NAMESPACE) if rollout.plan.id in event["metadata"]["name"]
    ]
    [event] = [event for event in events if rollout.plan.id in event["metadata"]["name"]]
    assert event["regarding"]["kind"] == "RayService"


def test_a_dropped_watch_is_opened_again(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first watch is dropped in the middle; a change after it is seen by the next."""
    monkeypatch.setattr(client, "RETRY_S", 0.05)
    lines, opened = cluster._lines, 0

    def dropped(path: str, query: dict[str, str], read_s: float) -> Iterator[str]:
        nonlocal opened
        opened += 1
        if opened == 1:
            return iter(())
        return lines(path, query, read_s)

    monkeypatch.setattr(cluster, "_lines", dropped)
    changed = threading.Thread(target=lambda: _when(lambda: opened >= 2, lambda: touch(cluster, "changed")))
    changed.start()
    seen = next(cluster.watch(RAY_SERVICES, NAMESPACE, 30.0))
    changed.join()
    assert seen[1]["metadata"]["annotations"]["note"] == "changed"


def _when(condition: Callable[[], bool], act: Callable[[], None]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    act()


@pytest.mark.parametrize(("errors", "end"), [(0.0, Phase.PROMOTED), (0.05, Phase.ROLLED_BACK)])
def test_killed_at_every_step_it_converges(
    cluster: Cluster, kubeconfig: Path, errors: float, end: Phase
) -> None:
    target = RayServiceTarget(cluster, NAMESPACE, "marquee")
    steps = tuple(Step(weight, 1.0) for weight in (5, 25, 50))
    start(target, Wish("canary", NEW, steps, window_s=1.0))

    def state() -> State:
        record = target.load()
        assert record is not None
        return record.rollout.state

    with running(FakePrometheus()) as prometheus:
        prometheus.errors = errors  # type: ignore[attr-defined]  # made here, unknown to the type
        while not state().phase.over:
            before = state().decision
            with controller(kubeconfig, prometheus.url) as process:
                until(lambda: state().decision > before, process)  # noqa: B023 - called before the loop goes on
                process.send_signal(signal.SIGKILL)
                process.wait(DEADLINE_S)
        with controller(kubeconfig, prometheus.url) as process:
            rollout = target.load().rollout.plan.id  # type: ignore[union-attr]  # it is there by now
            told = {f"marquee.{rollout}.{number}" for number in range(state().decision + 1)}
            until(lambda: told <= {e["metadata"]["name"] for e in cluster.list(EVENTS, NAMESPACE)}, process)
    assert state().phase is end
    assert target.read().traffic == Traffic.of(NEW if end is Phase.PROMOTED else OLD)
