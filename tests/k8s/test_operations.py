"""What people ask for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from k8s.driver import Driver
from k8s.operations import NotPossible, Wish, ask_promotion, ask_rollback, start
from k8s.plan import Phase, PlanError, Step
from serving.config import Traffic, TrafficEntry
from tests.k8s.worlds import GOOD, NEW, OLD, Clock, MemoryTarget, Told

WISH = Wish("canary", NEW, (Step(5, 60.0),), window_s=20.0)
SPLIT = Traffic(traffic=(TrafficEntry(bundle=OLD, weight=60), TrafficEntry(bundle=NEW, weight=40)))


def target(traffic: Traffic | None = None) -> MemoryTarget:
    return MemoryTarget(traffic or Traffic.of(OLD))


def drive(on: MemoryTarget) -> Phase:
    clock = Clock()
    on.waited = clock.sleep
    return Driver(on, Told(GOOD), clock=clock, sleep=clock.sleep).drive().state.phase


def test_a_rollout_remembers_what_it_found() -> None:
    on = target()
    begun = start(on, WISH).plan
    assert (begun.production, begun.production_version, begun.candidate_version) == (OLD, "v1", "v2")
    assert begun.origin == Traffic.of(OLD)
    assert start(target(), replace(WISH, version="abc")).plan.candidate_version == "abc"


def test_one_at_a_time() -> None:
    on = target()
    start(on, WISH)
    with pytest.raises(NotPossible, match="under way"):
        start(on, WISH)
    drive(on)
    with pytest.raises(PlanError, match="production already"):
        start(on, WISH)


@pytest.mark.parametrize("traffic", [SPLIT, None])
def test_split_traffic_is_not_built_upon(traffic: Traffic | None) -> None:
    on = target()
    on.by_hand(traffic)
    with pytest.raises(NotPossible, match=r"split|the traffic is none"):
        start(on, WISH)


def test_a_rollout_is_promoted_or_rolled_back_by_hand() -> None:
    on = target()
    start(on, WISH)
    ask_promotion(on, None)
    assert (drive(on), on.traffic) == (Phase.PROMOTED, Traffic.of(NEW))

    on = target()
    start(on, WISH)
    with pytest.raises(NotPossible, match="under way"):
        ask_promotion(on, "s3://bundles/v3")
    ask_rollback(on)
    assert (drive(on), on.traffic) == (Phase.ROLLED_BACK, Traffic.of(OLD))


def test_a_promotion_is_undone_once() -> None:
    on = target()
    ask_promotion(on, NEW)
    assert (drive(on), on.traffic) == (Phase.PROMOTED, Traffic.of(NEW))
    ask_rollback(on)
    assert (drive(on), on.traffic) == (Phase.PROMOTED, Traffic.of(OLD))


def test_a_split_made_by_hand_goes_either_way() -> None:
    on = target(SPLIT)
    ask_promotion(on, None)
    assert (drive(on), on.traffic) == (Phase.PROMOTED, Traffic.of(NEW))
    on = target(SPLIT)
    ask_rollback(on)
    assert (drive(on), on.traffic) == (Phase.ROLLED_BACK, Traffic.of(OLD))


def test_a_rollout_that_stopped_is_taken_over() -> None:
    on = target()
    start(on, WISH)
    Driver(on, Told(GOOD)).turn()
    on.by_hand(SPLIT)
    assert drive(on) is Phase.STOPPED
    ask_rollback(on)
    assert (drive(on), on.traffic) == (Phase.ROLLED_BACK, Traffic.of(OLD))


def test_nothing_to_do_says_so() -> None:
    with pytest.raises(NotPossible, match="nothing to roll back"):
        ask_rollback(target())
    with pytest.raises(NotPossible, match="name the bundle"):
        ask_promotion(target(), None)


def test_a_promotion_is_undone_by_the_versions_that_were_known() -> None:
    """Replicas no longer report what left the traffic, and its folder may be named otherwise."""
    on = target()
    start(on, WISH)
    assert on.record is not None
    named = replace(on.record.plan, production_version="20260101", candidate_version="20260102")
    done = replace(on.record.state, phase=Phase.PROMOTED)
    on.record, on.traffic = replace(on.record, plan=named, state=done), Traffic.of(NEW)
    assert "20260101 takes over again: the promotion of 20260102" in ask_rollback(on).state.message
