"""Traffic of a RayService over real HTTP: edited alone, guarded by resourceVersion, told in Events."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
import yaml

from k8s import driver as driver_module
from k8s.client import CONFIG_MAPS, EVENTS, RAY_SERVICES
from k8s.driver import Driver
from k8s.errors import Conflict, NotFound
from k8s.operations import Wish, start
from k8s.plan import Phase, Step
from k8s.rayservice import RayServiceTarget, rollouts
from k8s.traffic_edit import TrafficEditError
from serving.config import Traffic
from tests.k8s.apiserver import Served, ray_service
from tests.k8s.worlds import ERRORS, GOOD, NEW, OLD, Clock, Told, plan

WISH = Wish("canary", NEW, (Step(5, 60.0), Step(50, 60.0)), window_s=20.0)


@pytest.fixture
def target(kubernetes: Served) -> RayServiceTarget:
    kubernetes.put(RAY_SERVICES, "marquee", ray_service({"bundle": OLD, "weight": 100}))
    return RayServiceTarget(kubernetes.cluster(), "prod", "marquee")


def by_hand(kubernetes: Served, text: str) -> None:
    kubernetes.cluster().patch(RAY_SERVICES, "prod", "marquee", {"spec": {"serveConfigV2": text}})


def text_of(kubernetes: Served) -> str:
    return str(kubernetes.cluster().get(RAY_SERVICES, "prod", "marquee")["spec"]["serveConfigV2"])


def test_a_write_changes_the_traffic_and_nothing_else(kubernetes: Served, target: RayServiceTarget) -> None:
    before = text_of(kubernetes)
    target.write(plan().at(0), target.read().revision)
    after = text_of(kubernetes)
    assert target.read().traffic == plan().at(0)
    assert after.startswith("# the application\n")
    config = yaml.safe_load(after)
    for deployment in config["applications"][0]["deployments"]:
        deployment["user_config"]["traffic"] = [{"bundle": OLD, "weight": 100}]
    assert config == yaml.safe_load(before)


def test_a_write_on_an_old_view_is_a_conflict(kubernetes: Served, target: RayServiceTarget) -> None:
    revision = target.read().revision
    by_hand(kubernetes, text_of(kubernetes) + "# edited\n")
    with pytest.raises(Conflict):
        target.write(plan().at(0), revision)
    assert target.read().traffic == Traffic.of(OLD)


def test_an_edit_half_done_is_no_table(kubernetes: Served, target: RayServiceTarget) -> None:
    by_hand(kubernetes, text_of(kubernetes).replace(OLD, NEW, 1))
    assert target.read().traffic is None
    by_hand(kubernetes, "applications: []")
    with pytest.raises(TrafficEditError, match="no deployment"):
        target.read()


def test_no_such_service_says_so(kubernetes: Served) -> None:
    with pytest.raises(NotFound, match="rayservices/other"):
        RayServiceTarget(kubernetes.cluster(), "prod", "other").read()


def test_the_record_is_kept_beside_it_and_goes_with_it(kubernetes: Served, target: RayServiceTarget) -> None:
    assert target.load() is None
    rollout = start(target, WISH)
    record = target.load()
    assert record is not None
    assert record.rollout == rollout
    [owner] = kubernetes.cluster().get(CONFIG_MAPS, "prod", "marquee-rollout")["metadata"]["ownerReferences"]
    service = kubernetes.cluster().get(RAY_SERVICES, "prod", "marquee")
    assert owner == {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "name": "marquee",
        "uid": service["metadata"]["uid"],
    }
    assert rollouts(kubernetes.cluster(), "prod") == ["marquee"]
    target.save(rollout, record.revision)
    with pytest.raises(Conflict):
        target.save(rollout, record.revision)
    with pytest.raises(Conflict):
        target.save(rollout, None)


@pytest.mark.parametrize(("signals", "end"), [(GOOD, Phase.PROMOTED), (ERRORS, Phase.ROLLED_BACK)])
def test_a_rollout_from_end_to_end(
    kubernetes: Served, target: RayServiceTarget, signals: object, end: Phase
) -> None:
    start(target, WISH)
    clock = Clock(time.time())
    target.wait = clock.sleep  # type: ignore[method-assign]  # the test puts its own in place
    ended = Driver(target, Told(signals), clock=clock, sleep=clock.sleep).drive()  # type: ignore[arg-type]  # parameters of a test are wider
    assert ended.state.phase is end
    assert target.read().traffic == Traffic.of(NEW if end is Phase.PROMOTED else OLD)
    events = kubernetes.cluster().list(EVENTS, "prod")
    actions = ["Started", "InPlace", "StepUp", "InPlace", "Promote", "Finish"]
    assert [event["reason"] for event in events] == (
        actions if end is Phase.PROMOTED else ["Started", "InPlace", "RollBack", "Finish"]
    )
    for event in events:
        assert event["regarding"]["kind"] == "RayService"
        assert event["regarding"]["uid"]
        assert event["reportingController"] == "marquee.dev/rollout"
        assert event["type"] == ("Warning" if event["reason"] == "RollBack" else "Normal")


def test_an_event_is_told_once(kubernetes: Served, target: RayServiceTarget) -> None:
    rollout = start(target, WISH)
    target.announce(rollout)
    target.announce(rollout)
    assert len(kubernetes.cluster().list(EVENTS, "prod")) == 1


def test_a_long_message_is_cut_to_what_an_event_may_hold(
    kubernetes: Served, target: RayServiceTarget
) -> None:
    rollout = start(target, WISH)
    target.announce(replace(rollout, state=replace(rollout.state, message="→" * 1_000)))
    [event] = kubernetes.cluster().list(EVENTS, "prod")
    assert event["note"] == "→" * (1_024 // 3)


def test_conflicts_are_tried_again(
    kubernetes: Served, target: RayServiceTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KubeRay writes the RayService between the controller's look and its write, twice."""
    monkeypatch.setattr(driver_module, "CONFLICT_S", 0.01)
    start(target, WISH)
    read, left = target.read, 2

    def disturbed() -> object:
        nonlocal left
        seen = read()
        if left:
            left -= 1
            kubernetes.cluster().patch(
                RAY_SERVICES, "prod", "marquee", {"status": {"serviceStatus": str(left)}}
            )
        return seen

    target.read = disturbed  # type: ignore[method-assign, assignment]  # the test puts its own in place
    Driver(target, Told(GOOD)).turn()
    assert left == 0
    assert read().traffic == plan().at(0)


def test_a_hand_on_the_spec_wakes_and_a_status_does_not(kubernetes: Served, target: RayServiceTarget) -> None:
    target.read()
    woken = threading.Event()

    def wait() -> None:
        target.wait(20.0)
        woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    until = time.monotonic() + 10
    while not kubernetes.api.watches and time.monotonic() < until:
        time.sleep(0.01)
    kubernetes.cluster().patch(RAY_SERVICES, "prod", "marquee", {"status": {"serviceStatus": "Running"}})
    assert not woken.wait(0.3)
    by_hand(kubernetes, text_of(kubernetes) + "# edited\n")
    assert woken.wait(10)
    thread.join()
