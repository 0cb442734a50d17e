"""The decisions of a rollout: never more than the step's weight, back within two windows, the same from the
same."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8s.guardrails import Signals
from k8s.plan import DamagedRecord, Phase, Plan, PlanError, Rollout, State, Step, from_json, to_json
from k8s.rollout import QUIET, Action, decide, goal, promote, roll_back
from serving.config import Traffic, TrafficEntry
from tests.k8s.worlds import ERRORS, GOOD, HEALTHY, NEW, OLD, plan

FOREIGN = Traffic(traffic=(TrafficEntry(bundle=OLD, weight=60), TrafficEntry(bundle=NEW, weight=40)))
POLL_S = 5.0

plans = st.builds(
    lambda weights, seconds, kind: plan(*sorted(weights), seconds=seconds, kind=kind),
    st.sets(st.integers(1, 99), min_size=1, max_size=4),
    st.floats(20, 200),
    st.sampled_from(["canary", "shadow"]),
)
signals = st.sampled_from([GOOD, ERRORS, None, Signals()])


def exposure(traffic: Traffic) -> int:
    return sum(entry.weight for entry in traffic.traffic if entry.bundle == NEW)


def run(the_plan: Plan, seen: list[Signals | None]) -> list[tuple[float, Traffic, State]]:
    """One controller that polls; the last signals stay. (time, traffic in place, state) after every turn."""
    state, traffic, now, history = State(), the_plan.origin, 0.0, []
    for turn in range(2_000):
        decision = decide(the_plan, state, traffic, seen[min(turn, len(seen) - 1)], now)
        state, traffic = decision.state, decision.traffic or traffic
        history.append((now, traffic, state))
        if state.phase.over:
            return history
        if decision.action in QUIET:
            now += POLL_S
    raise AssertionError("it never ends")


@given(plans, st.lists(signals, min_size=1, max_size=60))
def test_exposes_no_more_than_the_steps_weight_and_always_ends(
    the_plan: Plan, seen: list[Signals | None]
) -> None:
    history = run(the_plan, seen)
    for _, traffic, state in history:
        if state.phase is Phase.PROGRESSING:
            assert exposure(traffic) <= the_plan.steps[state.step].weight
    _, traffic, state = history[-1]
    assert traffic == (the_plan.promoted() if state.phase is Phase.PROMOTED else the_plan.baseline())


@given(plans)
def test_a_good_candidate_takes_every_step_for_its_time(the_plan: Plan) -> None:
    history = run(the_plan, [GOOD])
    assert history[-1][2].phase is (Phase.PASSED if the_plan.kind == "shadow" else Phase.PROMOTED)
    for index, step in enumerate(the_plan.steps):
        held = [time for time, traffic, _ in history if traffic == the_plan.at(index)]
        assert held[-1] - held[0] >= step.seconds - POLL_S


@given(plans, st.integers(0, 40))
def test_a_broken_guardrail_is_rolled_back_at_the_next_look(the_plan: Plan, healthy: int) -> None:
    history = run(the_plan, [GOOD] * healthy + [ERRORS])
    _, traffic, state = history[-1]
    if state.phase.good:  # it had passed before anything broke
        assert healthy * POLL_S >= sum(step.seconds for step in the_plan.steps)
        return
    assert state.phase is Phase.ROLLED_BACK
    assert traffic == the_plan.baseline()
    broke = next(time for (time, _, _), turn in zip(history, range(2_000), strict=False) if turn >= healthy)
    assert history[-1][0] - broke <= 2 * the_plan.window_s
    assert "error rate" in state.message


@given(plans, st.lists(signals, min_size=1, max_size=30), st.floats(0, 10_000))
def test_deciding_again_changes_nothing(the_plan: Plan, seen: list[Signals | None], now: float) -> None:
    """Once a decision is carried out and its traffic noted, the same moment brings nothing new."""
    for _, traffic, state in run(the_plan, seen):
        first = decide(the_plan, state, traffic, GOOD, now)
        assert first == decide(the_plan, state, traffic, GOOD, now)
        if first.action is Action.HOLD:
            again = decide(the_plan, first.state, traffic, GOOD, now)
            assert (again.action, again.state, again.traffic) == (Action.HOLD, first.state, None)


@given(plans, st.integers(0, 30))
def test_traffic_that_is_neither_the_last_nor_the_next_step_stops_it(the_plan: Plan, turns: int) -> None:
    history = run(the_plan, [GOOD])
    _, traffic, state = history[min(turns, len(history) - 2)]
    known = {the_plan.at(state.step - 1), the_plan.at(state.step), goal(the_plan, state), traffic}
    if FOREIGN in known:
        return
    decision = decide(the_plan, state, FOREIGN, GOOD, 1.0)
    assert (decision.action, decision.state.phase, decision.traffic) == (Action.STOP, Phase.STOPPED, None)
    assert "somebody else" in decision.message
    assert decide(the_plan, decision.state, FOREIGN, GOOD, 2.0).action is Action.HOLD


def test_deployments_that_disagree_stop_it() -> None:
    assert decide(plan(), State(since=0.0), None, GOOD, 1.0).action is Action.STOP


def test_a_step_taken_back_by_hand_is_not_taken_again() -> None:
    """After a step was seen in place, the traffic before it is somebody's decision, not a write due."""
    the_plan = plan()
    due = decide(the_plan, State(), the_plan.origin, None, 1.0)
    assert (due.action, due.traffic) == (Action.APPLY, the_plan.at(0))
    assert decide(the_plan, State(since=0.0), the_plan.origin, GOOD, 1.0).action is Action.STOP


def test_no_data_holds_and_then_goes_back() -> None:
    the_plan = plan()
    history = run(the_plan, [None])
    assert max(state.step for _, _, state in history) == 0
    assert history[-1][2].phase is Phase.ROLLED_BACK
    assert history[-1][0] == pytest.approx(the_plan.patience_s, abs=2 * POLL_S)
    assert "not enough data" in history[-1][2].message


def test_too_few_requests_are_no_data() -> None:
    few = replace(GOOD, candidate=replace(HEALTHY, requests=10, errors=10))
    decision = decide(plan(), State(since=0.0), plan().at(0), few, 1_000.0)
    assert decision.action is Action.HOLD
    assert "candidate has 10 of 200 requests" in decision.message


def test_data_that_comes_back_is_forgiven() -> None:
    state = State(since=0.0, blind_since=5.0)
    decision = decide(plan(), state, plan().at(0), GOOD, 10.0)
    assert decision.state.blind_since is None


def test_a_refused_bundle_goes_back_at_once() -> None:
    the_plan = plan()
    decision = decide(the_plan, State(), the_plan.at(0), None, 1.0, refused="checksum does not match")
    assert (decision.action, decision.traffic) == (Action.ROLL_BACK, the_plan.baseline())
    assert "checksum" in decision.message


def test_a_step_that_is_never_taken_goes_back() -> None:
    the_plan = plan()
    state, now = State(), 0.0
    while state.phase is Phase.PROGRESSING:
        state = decide(the_plan, state, the_plan.origin, GOOD, now).state
        now += POLL_S
        assert now <= the_plan.patience_s + 2 * POLL_S
    assert state.phase is Phase.ROLLING_BACK


@pytest.mark.parametrize("step", [0, 1])
def test_asked_by_hand_it_leaves_from_any_step(step: int) -> None:
    the_plan = plan()
    for asked, wanted, end in (
        (promote, the_plan.promoted(), Phase.PROMOTED),
        (roll_back, the_plan.baseline(), Phase.ROLLED_BACK),
    ):
        state = asked(the_plan, State(step=step, since=1.0), "by hand").state
        for before in (the_plan.at(step), the_plan.at(step - 1)):
            if before != wanted:
                decision = decide(the_plan, state, before, None, 2.0)
                assert (decision.action, decision.traffic) == (Action.APPLY, wanted)
        assert decide(the_plan, state, wanted, None, 2.0).state.phase is end


def test_a_record_outlives_the_process() -> None:
    kept = Rollout(plan(), State(since=3.0, message="«»"))
    assert from_json(to_json(kept)) == kept


@pytest.mark.parametrize(
    "text", ["", "{}", to_json(Rollout(plan(), State())).replace('"step":0', '"step":7')]
)
def test_a_damaged_record_says_so(text: str) -> None:
    with pytest.raises(DamagedRecord, match="delete it"):
        from_json(text)


@pytest.mark.parametrize(
    ("steps", "word"),
    [
        ((Step(50, 60), Step(5, 60)), "grow"),
        ((Step(0, 60),), "grow"),
        ((Step(100, 60),), "grow"),
        ((Step(5, 1),), "window"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(steps: tuple[Step, ...], word: str) -> None:
    with pytest.raises(PlanError, match=word):
        replace(plan(), steps=steps)


def test_the_bundle_in_production_is_no_candidate() -> None:
    with pytest.raises(PlanError, match="in production already"):
        replace(plan(), candidate=OLD)


# Replicas are believed, not what was written


@given(plans, st.lists(st.booleans(), max_size=40), st.sampled_from([GOOD, ERRORS]))
def test_no_step_counts_and_no_rollout_ends_while_a_replica_is_behind(
    the_plan: Plan, late: list[bool], seen: Signals
) -> None:
    state, traffic, now = State(), the_plan.origin, 0.0
    for turn in range(2_000):
        behind = {"pod-1/7": "still serves v1 100%"} if turn < len(late) and late[turn] else {}
        decision = decide(the_plan, state, traffic, seen, now, behind=behind)
        if behind:
            assert decision.action not in (Action.SEEN, Action.FINISH)
        if decision.action is Action.WAIT:
            assert "pod-1/7 still serves v1 100%" in decision.state.waiting
        state, traffic = decision.state, decision.traffic or traffic
        if state.phase.over:
            break
        if decision.action in QUIET:
            now += POLL_S
    assert state.phase.over
    assert state.waiting == ""


def test_a_step_that_is_not_taken_in_time_is_rolled_back_with_who_is_behind() -> None:
    the_plan = plan()
    state = State(blind_since=0.0)
    behind = {f"pod-{number}": "has no bundle yet" for number in range(7)}
    decision = decide(the_plan, state, the_plan.at(0), GOOD, the_plan.patience_s, behind=behind)
    assert decision.action is Action.ROLL_BACK
    assert "7 of those that serve are behind" in decision.message
    assert "and 2 more" in decision.message


def test_a_way_back_waits_for_everybody_however_long() -> None:
    the_plan = plan()
    state = roll_back(the_plan, State(), "by hand").state
    decision = decide(the_plan, state, the_plan.baseline(), None, 1e9, behind={"pod-1/7": "has v2"})
    assert (decision.action, decision.state.phase) == (Action.WAIT, Phase.ROLLING_BACK)
    assert decide(the_plan, decision.state, the_plan.baseline(), None, 1e9).state.phase is Phase.ROLLED_BACK


@pytest.mark.parametrize("phase", [Phase.PROGRESSING, Phase.PROMOTING])
def test_a_refusal_is_back_at_once(phase: Phase) -> None:
    the_plan = plan()
    state = State(phase=phase)
    decision = decide(
        the_plan, state, goal(the_plan, state), GOOD, 0.0, "pod-1/7: cut off", {"pod-1/7": "v1"}
    )
    assert decision.action is Action.ROLL_BACK
    assert "pod-1/7: cut off" in decision.message
    assert decision.traffic == the_plan.baseline()


def test_what_a_step_is_held_for_is_remembered_and_forgotten_when_it_is_there() -> None:
    """Held without a word, a canary looked as if it were judged."""
    the_plan = plan()
    state = State(since=0.0, exposed=0.0)
    unknown = replace(GOOD, candidate=replace(HEALTHY, psi=None))
    held = decide(the_plan, state, the_plan.at(0), unknown, 5.0)
    assert (held.action, held.state.waiting) == (Action.HOLD, "not enough data yet: score PSI unknown")
    assert decide(the_plan, held.state, the_plan.at(0), GOOD, 10.0).state.waiting == ""
