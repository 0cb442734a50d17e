"""Many rollouts, one controller: what fails for one does not hold up the others."""

from __future__ import annotations

from dataclasses import dataclass, field

from k8s.controller import Controller
from k8s.driver import AWAY_S, LONGEST_POLL_S
from k8s.errors import Unavailable
from k8s.operations import Wish, start
from k8s.plan import Phase, Step
from k8s.target import Observed, Target
from serving.config import Traffic
from tests.k8s.worlds import GOOD, NEW, OLD, MemoryTarget, Told


@dataclass
class Fleet:
    found: dict[str, Target] = field(default_factory=dict)
    away: bool = False

    def targets(self) -> dict[str, Target]:
        if self.away:
            raise Unavailable("no API server")
        return self.found

    def wait(self, seconds: float) -> None:
        raise AssertionError("not in these tests")


def begun() -> MemoryTarget:
    target = MemoryTarget(Traffic.of(OLD))
    start(target, Wish("canary", NEW, (Step(5, 0.001),), window_s=0.001))
    return target


def controller(fleet: Fleet) -> Controller:
    return Controller(fleet, lambda _: Told(GOOD), lambda *_: None)


def phase(target: MemoryTarget) -> Phase:
    assert target.record is not None
    return target.record.state.phase


def rounds(driver: Controller, *until_over: MemoryTarget) -> float:
    for _ in range(1_000):
        rest = driver.round()
        if all(phase(target).over for target in until_over):
            return rest
    raise AssertionError("it never ends")


def test_every_rollout_is_driven() -> None:
    first, second = begun(), begun()
    rounds(controller(Fleet({"a": first, "b": second, "idle": MemoryTarget(Traffic.of(OLD))})), first, second)
    assert phase(first) is phase(second) is Phase.PROMOTED


def test_one_that_fails_holds_up_nobody() -> None:
    sick, well = begun(), begun()

    def away() -> Observed:
        raise Unavailable("away")

    sick.read = away  # type: ignore[method-assign]  # the test puts its own in place
    rounds(controller(Fleet({"a": sick, "b": well})), well)
    assert phase(well) is Phase.PROMOTED
    assert phase(sick) is Phase.PROGRESSING


def test_with_nothing_to_do_it_rests() -> None:
    assert controller(Fleet()).round() == LONGEST_POLL_S
    assert controller(Fleet({"idle": MemoryTarget(Traffic.of(OLD))})).round() == LONGEST_POLL_S


def test_an_api_server_that_is_away_is_asked_again() -> None:
    assert controller(Fleet(away=True)).round() == AWAY_S


def test_an_end_that_nobody_lived_to_tell_is_told() -> None:
    target = begun()
    rounds(controller(Fleet({"a": target})), target)
    told = dict(target.events)
    last = max(number for _, number in told)
    target.events = {key: event for key, event in told.items() if key[1] != last}
    controller(Fleet({"a": target})).round()
    assert target.events == told


def test_chores_are_done_each_round_and_hold_up_no_rollout() -> None:
    target, done = begun(), []

    def chore() -> None:
        done.append(None)
        raise Unavailable("no API server")

    driver = Controller(Fleet({"a": target}), lambda _: Told(GOOD), lambda *_: None, [chore, chore])
    driver.round()
    assert len(done) == 2
    rounds(driver, target)
    assert phase(target) is Phase.PROMOTED
