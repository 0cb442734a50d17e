"""Traffic of a RayService over real HTTP: an object of its own, guarded by resourceVersion, believed when the
replicas report it, told in Events."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from k8s import driver as driver_module
from k8s.client import CONFIG_MAPS, EVENTS, PODS, RAY_SERVICES
from k8s.driver import Driver
from k8s.errors import Conflict, NotFound
from k8s.operations import Wish, start
from k8s.plan import Phase, Step
from k8s.rayservice import RayServiceTarget, services
from k8s.rollout import Action
from serving.config import Traffic
from serving.traffic.desired import Desired
from tests.k8s.apiserver import Served, page, ray_service, serving, worker
from tests.k8s.worlds import ERRORS, GOOD, NEW, OLD, Clock, Told, plan

WISH = Wish("canary", NEW, (Step(5, 60.0), Step(50, 60.0)), window_s=20.0)


ALL_OLD = {"bundle": OLD, "weight": 100}
SPLIT = ({"bundle": OLD, "weight": 95}, {"bundle": NEW, "weight": 5})


@pytest.fixture
def target(kubernetes: Served) -> RayServiceTarget:
    serving(kubernetes, ALL_OLD)
    return RayServiceTarget(kubernetes.cluster(), "prod", "marquee")


def by_hand(kubernetes: Served, text: str) -> None:
    kubernetes.cluster().patch(CONFIG_MAPS, "prod", "marquee-traffic", {"data": {"traffic.json": text}})


def text_of(kubernetes: Served) -> str:
    return str(kubernetes.cluster().get(CONFIG_MAPS, "prod", "marquee-traffic")["data"]["traffic.json"])


def test_a_write_changes_the_traffic_object_and_never_the_service(
    kubernetes: Served, target: RayServiceTarget
) -> None:
    before = kubernetes.cluster().get(RAY_SERVICES, "prod", "marquee")
    target.write(plan().at(0), target.read().revision)
    assert target.read().traffic == plan().at(0)
    assert Desired.parse(text_of(kubernetes)) == Desired(plan().at(0), 2)
    assert kubernetes.cluster().get(RAY_SERVICES, "prod", "marquee") == before


def test_a_write_has_the_kubelets_of_every_serving_pod_look(
    kubernetes: Served, target: RayServiceTarget
) -> None:
    kubernetes.put(PODS, "marquee-worker-next", worker("marquee-next"))
    kubernetes.put(PODS, "marquee-worker-old", worker("marquee-old"))
    status = {"status": {"pendingServiceStatus": {"rayClusterName": "marquee-next"}}}
    kubernetes.cluster().patch(RAY_SERVICES, "prod", "marquee", status)
    target.write(plan().at(0), target.read().revision)
    nudged = [
        pod["metadata"]["name"]
        for pod in kubernetes.cluster().list(PODS, "prod")
        if "marquee.dev/traffic" in pod["metadata"].get("annotations", {})
    ]
    assert sorted(nudged) == ["marquee-worker-0", "marquee-worker-next"]


def test_who_may_not_touch_pods_moves_traffic_all_the_same(
    kubernetes: Served, target: RayServiceTarget
) -> None:
    revision = target.read().revision
    kubernetes.api["patch /api/v1/namespaces/prod/pods/marquee-worker-0"] << 403 << {"message": "no"}
    target.write(plan().at(0), revision)
    assert target.read().traffic == plan().at(0)


def test_a_write_on_an_old_view_is_a_conflict(kubernetes: Served, target: RayServiceTarget) -> None:
    revision = target.read().revision
    by_hand(kubernetes, text_of(kubernetes) + " ")
    with pytest.raises(Conflict):
        target.write(plan().at(0), revision)
    assert target.read().traffic == Traffic.of(OLD)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"traffic": []}', '{"traffic": [{"bundle": "a"}]}', "null"])
def test_a_text_that_is_no_traffic_says_why(kubernetes: Served, target: RayServiceTarget, text: str) -> None:
    by_hand(kubernetes, text)
    seen = target.read()
    assert seen.traffic is None
    assert "marquee-traffic holds no traffic: traffic.json" in seen.problem
    assert "holds no traffic" in target.tend()
    [event] = kubernetes.cluster().list(EVENTS, "prod")
    assert (event["reason"], event["type"]) == ("Refused", "Warning")


def test_without_an_object_it_is_made_of_what_the_replicas_agree_on(kubernetes: Served) -> None:
    kubernetes.put(RAY_SERVICES, "marquee", ray_service())
    for number in range(2):
        kubernetes.put(PODS, f"marquee-worker-{number}", worker())
        kubernetes.api.pages[f"marquee-worker-{number}"] = page("1", [], {}, "no bundle yet: waiting")
    target = RayServiceTarget(kubernetes.cluster(), "prod", "marquee")
    with pytest.raises(NotFound, match=r"no bundle yet: waiting.*rollout first"):
        target.read()
    assert "no bundle yet: waiting" in target.tend()
    kubernetes.api.pages["marquee-worker-0"] = page("1", [ALL_OLD], {})
    assert target.read().traffic == Traffic.of(OLD)
    assert target.tend() == ""
    assert Desired.parse(text_of(kubernetes)) == Desired(Traffic.of(OLD), 1)
    [owner] = kubernetes.cluster().get(CONFIG_MAPS, "prod", "marquee-traffic")["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("RayService", "marquee")


def test_replicas_that_disagree_make_no_object(kubernetes: Served) -> None:
    kubernetes.put(RAY_SERVICES, "marquee", ray_service())
    for number, url in enumerate((OLD, NEW)):
        kubernetes.put(PODS, f"marquee-worker-{number}", worker())
        kubernetes.api.pages[f"marquee-worker-{number}"] = page("1", [{"bundle": url, "weight": 100}], {})
    target = RayServiceTarget(kubernetes.cluster(), "prod", "marquee")
    assert "disagree: v1 100%; v2 100%" in target.tend()


def test_a_step_counts_when_every_replica_of_every_cluster_serves_it(
    kubernetes: Served, target: RayServiceTarget
) -> None:
    kubernetes.put(PODS, "marquee-worker-next", worker("marquee-next"))
    status = {"status": {"pendingServiceStatus": {"rayClusterName": "marquee-next"}}}
    kubernetes.cluster().patch(RAY_SERVICES, "prod", "marquee", status)
    kubernetes.api.pages["marquee-worker-next"] = page("9", [ALL_OLD], {})
    start(target, WISH)
    driver = Driver(target, Told(GOOD))
    actions = [driver.turn()[1].action for _ in range(3)]
    assert actions == [Action.APPLY, Action.WAIT, Action.WAIT]
    record = target.load()
    assert record is not None
    assert record.rollout.state.waiting == (
        f"1 of those that serve are behind: marquee-worker-next/9 still serves {OLD} 100%"
    )
    kubernetes.api.pages["marquee-worker-next"] = page("9", list(SPLIT), {})
    assert driver.turn()[1].action is Action.SEEN


def test_a_refusal_of_one_replica_is_seen_at_the_next_look_with_its_reason(
    kubernetes: Served, target: RayServiceTarget
) -> None:
    start(target, WISH)
    driver = Driver(target, Told(GOOD))
    driver.turn()
    kubernetes.api.pages["marquee-worker-0"] = page("1", [ALL_OLD], {NEW: "ranker.safetensors is cut off"})
    _, decision = driver.turn()
    assert decision.action is Action.ROLL_BACK
    assert "marquee-worker-0/1: ranker.safetensors is cut off" in decision.message
    kubernetes.api.pages.clear()
    assert driver.turn()[0].state.phase is Phase.ROLLED_BACK
    assert target.read().traffic == Traffic.of(OLD)


def test_a_pod_that_does_not_answer_is_behind(kubernetes: Served, target: RayServiceTarget) -> None:
    kubernetes.api.pages["marquee-worker-0"] = ""
    assert list(target.read().behind) == ["marquee-worker-0"]


def test_a_pod_without_a_replica_is_not_waited_for(kubernetes: Served, target: RayServiceTarget) -> None:
    kubernetes.put(PODS, "marquee-worker-1", worker())
    kubernetes.api.pages["marquee-worker-1"] = "# nothing\n"
    assert target.read().behind == {}


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
    assert services(kubernetes.cluster(), "prod") == ["marquee"]
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
    """Somebody writes the object between the controller's look and its write, twice."""
    monkeypatch.setattr(driver_module, "CONFLICT_S", 0.01)
    start(target, WISH)
    read, left = target.read, 2

    def disturbed() -> object:
        nonlocal left
        seen = read()
        if left:
            left -= 1
            by_hand(kubernetes, text_of(kubernetes) + " ")
        return seen

    target.read = disturbed  # type: ignore[method-assign, assignment]  # the test puts its own in place
    Driver(target, Told(GOOD)).turn()
    assert left == 0
    assert read().traffic == plan().at(0)


def test_a_hand_on_the_object_wakes_and_other_objects_do_not(
    kubernetes: Served, target: RayServiceTarget
) -> None:
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
    kubernetes.put(CONFIG_MAPS, "other", {"data": {}})
    assert not woken.wait(0.3)
    by_hand(kubernetes, text_of(kubernetes) + " ")
    assert woken.wait(10)
    thread.join()
