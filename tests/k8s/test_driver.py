"""The loop round the decisions: killed after any action, disturbed by anybody, it converges."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8s.driver import CONFIRM_S, Driver, poll_s
from k8s.errors import Conflict, Forbidden, NotFound, Rejected, Unavailable
from k8s.guardrails import Signals
from k8s.plan import Phase, Rollout, State
from k8s.rollout import Action, Decision
from k8s.target import Observed
from serving.config import Traffic, TrafficEntry
from tests.k8s.worlds import ERRORS, GOOD, NEW, OLD, Clock, Killed, MemoryTarget, Told, plan

FOREIGN = Traffic(traffic=(TrafficEntry(bundle=OLD, weight=60), TrafficEntry(bundle=NEW, weight=40)))


def begun(**more: object) -> MemoryTarget:
    target = MemoryTarget(Traffic.of(OLD), Rollout(plan(), State(message="begins")), record_revision=1)
    for name, value in more.items():
        setattr(target, name, value)
    return target


def driver(target: MemoryTarget, told: Told, clock: Clock) -> Driver:
    target.waited = clock.sleep
    return Driver(target, told, clock=clock, sleep=clock.sleep)


def weights(target: MemoryTarget) -> list[int]:
    return [sum(e.weight for e in traffic.traffic if e.bundle == NEW) for traffic in target.written]


def test_a_good_candidate_is_promoted_and_every_decision_recorded() -> None:
    target = begun()
    assert driver(target, Told(GOOD), Clock()).drive().state.phase is Phase.PROMOTED
    assert weights(target) == [5, 50, 100]
    assert target.traffic == Traffic.of(NEW)
    actions = [action for action, _ in target.events.values()]
    assert actions == ["Started", "InPlace", "StepUp", "InPlace", "Promote", "Finish"]
    assert [number for _, number in target.events] == list(range(6))


def test_a_bad_candidate_is_rolled_back_within_two_windows() -> None:
    target, clock, told = begun(), Clock(), Told(GOOD)

    def said(rollout: Rollout, _: Decision) -> None:
        if rollout.state.step == 1:
            told.now = ERRORS
            broke.append(clock.now)

    broke: list[float] = []
    run = driver(target, told, clock)
    run.said = said
    ended = run.drive()
    assert ended.state.phase is Phase.ROLLED_BACK
    assert clock.now - broke[0] <= 2 * ended.plan.window_s
    assert weights(target) == [5, 50, 0]
    assert ("RollBack", ended.state.message.removeprefix("RolledBack: ")) in target.events.values()


def test_no_signal_is_older_than_the_candidate() -> None:
    target, told = begun(), Told(GOOD)
    driver(target, told, Clock()).drive()
    window = target.record.plan.window_s if target.record else 0
    assert max(told.windows) == window
    exposed = [w for w in told.windows if w < window]
    assert exposed == sorted(exposed)
    assert exposed


@given(
    st.integers(0, 40),
    st.booleans(),
    st.lists(st.integers(0, 12), max_size=6),
    st.sampled_from([(GOOD, Phase.PROMOTED), (ERRORS, Phase.ROLLED_BACK), (None, Phase.ROLLED_BACK)]),
)
def test_killed_after_any_action_another_converges(
    fuse: int, after: bool, more: list[int], fate: tuple[Signals | None, Phase]
) -> None:
    signals, wanted = fate
    target, clock = begun(fuse=fuse, after=after), Clock()
    for next_fuse in [*more, -1]:
        try:
            driver(target, Told(signals), clock).drive()
        except Killed:
            target.fuse = next_fuse
        else:
            break
    target.fuse = -1
    ended = driver(target, Told(signals), clock).drive()
    assert ended.state.phase is wanted
    assert target.traffic == (Traffic.of(NEW) if wanted is Phase.PROMOTED else Traffic.of(OLD))
    assert weights(target) == sorted(set(weights(target)) - {0}) + [0] * (wanted is Phase.ROLLED_BACK)
    assert sorted(number for _, number in target.events) == list(range(ended.state.decision + 1))


@given(st.lists(st.sampled_from(["a", "b"]), max_size=200), st.sampled_from([GOOD, ERRORS]))
def test_two_controllers_do_not_fight(turns: list[str], signals: Signals) -> None:
    target, clock = begun(), Clock()
    both = {name: driver(target, Told(signals), clock) for name in "ab"}
    for name in turns:
        both[name].turn()
        clock.sleep(5.0)
    ended = both["a"].drive()
    assert ended.state.phase is (Phase.PROMOTED if signals is GOOD else Phase.ROLLED_BACK)
    assert weights(target) == ([5, 50, 100] if signals is GOOD else [5, 0])
    assert sorted(number for _, number in target.events) == list(range(ended.state.decision + 1))


def test_a_controller_that_decided_on_an_old_view_decides_again() -> None:
    """Between its look and its write another controller finishes the whole rollout."""
    target, clock = begun(), Clock()
    slow = driver(target, Told(GOOD), clock)

    def overtaken(_: float) -> None:
        pass

    read = target.read

    def late() -> Observed:
        target.read = read  # type: ignore[method-assign]  # the test puts its own in place
        seen = read()
        driver(target, Told(ERRORS), clock).drive()
        target.waited = overtaken
        return seen

    target.read = late  # type: ignore[method-assign]  # the test puts its own in place
    rollout, _ = slow.turn()
    assert rollout.state.phase is Phase.ROLLED_BACK
    assert target.traffic == Traffic.of(OLD)


@pytest.mark.parametrize("hand", [FOREIGN, None])
def test_a_hand_on_the_traffic_stops_it(hand: Traffic | None) -> None:
    target, clock = begun(), Clock()
    run = driver(target, Told(GOOD), clock)
    waits = 0

    def waited(seconds: float) -> None:
        nonlocal waits
        waits += 1
        clock.sleep(seconds)
        if waits == 3:
            target.by_hand(hand)

    target.waited = waited
    ended = run.drive()
    assert ended.state.phase is Phase.STOPPED
    assert target.traffic == hand
    assert weights(target) == [5]


def test_traffic_written_all_the_time_is_waited_out() -> None:
    target, clock = begun(), Clock()
    run = driver(target, Told(GOOD), clock)
    write = target.write
    target.write = lambda traffic, revision: write(traffic, "old")  # type: ignore[method-assign]  # the test puts its own in place
    _, decision = run.turn()
    assert "next turn" in decision.message
    target.write = write  # type: ignore[method-assign]  # the test puts its own in place
    assert run.drive().state.phase is Phase.PROMOTED


def test_what_is_refused_goes_back() -> None:
    target, clock = begun(refused={NEW: "checksum does not match"}), Clock()
    ended = driver(target, Told(GOOD), clock).drive()
    assert ended.state.phase is Phase.ROLLED_BACK
    assert "checksum" in ended.state.message


def test_what_the_server_rejects_goes_back() -> None:
    target, clock = begun(), Clock()
    write = target.write

    def rejected(traffic: Traffic, revision: str) -> None:
        if len(traffic.traffic) > 1:
            raise Rejected("no such bundle")
        write(traffic, revision)

    target.write = rejected  # type: ignore[method-assign]  # the test puts its own in place
    ended = driver(target, Told(GOOD), clock).drive()
    assert ended.state.phase is Phase.ROLLED_BACK
    assert "no such bundle" in ended.state.message


def test_an_api_server_that_is_away_is_waited_for() -> None:
    target, clock = begun(), Clock()
    read, left = target.read, 5

    def away() -> Observed:
        nonlocal left
        if left:
            left -= 1
            raise Unavailable("away")
        return read()

    target.read = away  # type: ignore[method-assign]  # the test puts its own in place
    assert driver(target, Told(GOOD), clock).drive().state.phase is Phase.PROMOTED


@pytest.mark.parametrize("error", [Unavailable("away"), Forbidden("no events for you")])
def test_words_do_not_hold_up_deeds(error: Exception) -> None:
    target, clock = begun(), Clock()

    def silent(_: Rollout) -> None:
        raise error

    target.announce = silent  # type: ignore[method-assign]  # the test puts its own in place
    assert driver(target, Told(ERRORS), clock).drive().state.phase is Phase.ROLLED_BACK


def test_no_rollout_and_no_permission_end_it() -> None:
    with pytest.raises(NotFound, match="marquee rollout canary"):
        driver(MemoryTarget(Traffic.of(OLD)), Told(GOOD), Clock()).drive()

    target = begun()

    def forbidden() -> Observed:
        raise Forbidden("no")

    target.read = forbidden  # type: ignore[method-assign]  # the test puts its own in place
    with pytest.raises(Forbidden):
        driver(target, Told(GOOD), Clock()).drive()


def test_a_window_is_looked_at_four_times_but_every_half_minute_at_least() -> None:
    assert poll_s(Rollout(plan(window_s=20.0), State())) == 5.0
    assert poll_s(Rollout(plan(window_s=600.0, seconds=600.0), State())) == 30.0


def test_the_memory_target_checks_revisions() -> None:
    """The double is strict, or the tests above would mean nothing."""
    target = begun()
    with pytest.raises(Conflict):
        target.write(FOREIGN, "7")
    with pytest.raises(Conflict):
        target.save(Rollout(plan(), State()), None)


def test_signals_are_asked_for_by_the_versions_that_replicas_report() -> None:
    """Production under another name than its version was looked up by that name, and never judged."""
    target = begun(versions={OLD: "v1", NEW: "v2"})
    assert target.record is not None
    unnamed = replace(target.record.plan, candidate_version="next", production_version="first")
    target.record = replace(target.record, plan=unnamed)
    ended = driver(target, Told(GOOD), Clock()).drive()
    assert ended.state.phase is Phase.PROMOTED
    assert (ended.plan.candidate_version, ended.plan.production_version) == ("v2", "v1")


def test_who_is_behind_is_hurried_and_looked_at_soon() -> None:
    target = begun(behind={"pod-1/7": "still serves v1 100%"})
    run = driver(target, Told(GOOD), Clock())
    run.turn()
    rollout, decision = run.turn()
    assert decision.action is Action.WAIT
    assert run.rest_s(rollout, decision) <= CONFIRM_S
    assert target.hurried == 1
    assert target.record is not None
    assert "pod-1/7" in target.record.state.waiting
