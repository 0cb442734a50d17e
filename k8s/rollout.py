"""The rollout's decisions, pure: from the plan, what is remembered, what is seen and the time to the next
action. Decides the same from the same, so a controller may die after any action and another goes on.

What is intended is remembered before it is written (`k8s.driver`), so traffic that is seen is either the step
in force, or the one before when a controller died between the two. Anything else somebody else has written.

Does not belong here: reading, writing, waiting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from k8s.guardrails import Signals, Verdict, judge
from k8s.plan import Phase, Plan, State
from serving.config import Traffic


class Action(StrEnum):
    """Also the reason of the event that records it."""

    APPLY = "Apply"
    """Write what was decided before and is not in place."""
    WAIT = "Wait"
    """What was written is not served by all yet."""
    HOLD = "Hold"
    SEEN = "InPlace"
    STEP = "StepUp"
    PROMOTE = "Promote"
    CONCLUDE = "Conclude"
    ROLL_BACK = "RollBack"
    FINISH = "Finish"
    STOP = "Stop"


QUIET = (Action.APPLY, Action.WAIT, Action.HOLD)
"""Not decisions: they repeat an earlier one or change nothing."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Attributes:
    state: to be remembered before anything is written.
    traffic: to be written then; None leaves it as it is.
    """

    action: Action
    state: State
    traffic: Traffic | None
    message: str


NAMED = 5
"""Replicas that are named in a message; their number says the rest."""

_OUTCOMES = {
    Phase.PROMOTING: Phase.PROMOTED,
    Phase.ROLLING_BACK: Phase.ROLLED_BACK,
    Phase.CONCLUDING: Phase.PASSED,
}


def goal(plan: Plan, state: State) -> Traffic:
    """The traffic that the state asks for."""
    match state.phase:
        case Phase.PROMOTING | Phase.PROMOTED:
            return plan.promoted()
        case Phase.ROLLING_BACK | Phase.ROLLED_BACK | Phase.CONCLUDING | Phase.PASSED:
            return plan.baseline()
        case _:
            return plan.at(state.step)


def decide(
    plan: Plan,
    state: State,
    observed: Traffic | None,
    signals: Signals | None,
    now: float,
    refused: str = "",
    behind: Mapping[str, str] = MappingProxyType({}),
) -> Decision:
    """What to do next.

    Args:
        observed: the traffic that is written; None where that is none.
        signals: of the last window; None where nobody could be asked.
        now: unix s.
        refused: why the candidate was not taken; empty where it was, or where nobody has said so.
        behind: who does not serve what is written → what it does instead. A step counts, and a rollout ends,
            when nobody is.
    """
    if state.phase.over:
        return Decision(Action.HOLD, state, None, state.message)
    wanted = goal(plan, state)
    if observed != wanted and not _ours(plan, state, observed):
        return _stop(plan, state, observed, wanted)
    if refused and state.phase in (Phase.PROGRESSING, Phase.PROMOTING):
        return roll_back(plan, state, f"{plan.candidate_version} was refused: {refused}")
    if observed != wanted:
        return _apply(plan, state, wanted, now)
    if behind and state.since is None:
        return _wait(plan, state, behind, now)
    if state.phase in _OUTCOMES:
        outcome = _OUTCOMES[state.phase]
        return _decided(state, Action.FINISH, f"{outcome}: {state.message}", phase=outcome)
    if state.since is None:
        exposed = now if state.exposed is None else state.exposed
        text = f"step {state.step + 1} of {len(plan.steps)} is in place: {_named(plan, wanted)}"
        return _decided(state, Action.SEEN, text, since=now, exposed=exposed, blind_since=None)
    return _evaluate(plan, state, judge(plan.guardrails, signals, shadow=plan.kind == "shadow"), now)


def promote(plan: Plan, state: State, why: str) -> Decision:
    """All traffic to the candidate, whatever the guardrails say."""
    return _decided(state, Action.PROMOTE, why, plan.promoted(), phase=Phase.PROMOTING, since=None)


def roll_back(plan: Plan, state: State, why: str) -> Decision:
    """All traffic back to production."""
    return _decided(
        state, Action.ROLL_BACK, why, plan.baseline(), phase=Phase.ROLLING_BACK, since=None, blind_since=None
    )


def describe(traffic: Traffic, versions: Mapping[str, str] = MappingProxyType({})) -> str:
    """In a few words: `v1 95%, v2 5%`; `versions` by URL, where they are known better than by its end."""
    shares = ("shadow" if entry.shadow else f"{entry.weight}%" for entry in traffic.traffic)
    names = (versions.get(url) or version_of(url) for url in traffic.bundles)
    return ", ".join(f"{name} {share}" for name, share in zip(names, shares, strict=True))


def _named(plan: Plan, traffic: Traffic) -> str:
    return describe(traffic, plan.versions)


def version_of(url: str) -> str:
    """A bundle's version by its URL: bundles are published under their version."""
    return url.rstrip("/").rsplit("/", 1)[-1]


def _ours(plan: Plan, state: State, observed: Traffic | None) -> bool:
    """Whether traffic other than wanted is what a controller left that died before it wrote."""
    if state.phase is not Phase.PROGRESSING:
        return observed in (plan.at(state.step - 1), plan.at(state.step))
    return state.since is None and observed == plan.at(state.step - 1)


def _stop(plan: Plan, state: State, observed: Traffic | None, wanted: Traffic) -> Decision:
    seen = "no valid table" if observed is None else _named(plan, observed)
    text = (
        f"somebody else changed traffic to: {seen}; expected: {_named(plan, wanted)}. This rollout keeps its "
        "hands off; `marquee rollout rollback` or a new rollout takes over"
    )
    return _decided(state, Action.STOP, text, phase=Phase.STOPPED)


def _apply(plan: Plan, state: State, wanted: Traffic, now: float) -> Decision:
    """Writes what is intended, again and again; a step that never takes hold is rolled back in the end."""
    since = now if state.blind_since is None else state.blind_since
    if state.phase is Phase.PROGRESSING and now - since >= plan.patience_s:
        return roll_back(plan, state, f"step {state.step + 1} was not taken for {plan.patience_s:.0f} s")
    text = f"writes what is not in place yet: {_named(plan, wanted)}"
    return Decision(Action.APPLY, replace(state, blind_since=since), wanted, text)


def _wait(plan: Plan, state: State, behind: Mapping[str, str], now: float) -> Decision:
    """Until all that serve have it; a step is given up in the end, an end is not."""
    shown = "; ".join(f"{who} {what}" for who, what in list(behind.items())[:NAMED])
    more = f" and {len(behind) - NAMED} more" if len(behind) > NAMED else ""
    text = f"{len(behind)} of those that serve are behind: {shown}{more}"
    since = now if state.blind_since is None else state.blind_since
    if state.phase is Phase.PROGRESSING and now - since >= plan.patience_s:
        return roll_back(
            plan, state, f"step {state.step + 1} was not taken for {plan.patience_s:.0f} s: {text}"
        )
    return Decision(Action.WAIT, replace(state, blind_since=since, waiting=text), None, text)


def _evaluate(plan: Plan, state: State, verdict: Verdict, now: float) -> Decision:
    if verdict.broken:
        return roll_back(plan, state, "guardrail broken: " + "; ".join(verdict.broken))
    if verdict.missing:
        return _blind(plan, state, verdict, now)
    state = replace(state, blind_since=None, waiting="")
    step = plan.steps[state.step]
    held = now - (state.since if state.since is not None else now)
    if held < step.seconds:
        return Decision(
            Action.HOLD, state, None, f"good so far; {step.seconds - held:.0f} s of this step left"
        )
    if state.step + 1 < len(plan.steps):
        following = state.step + 1
        traffic = plan.at(following)
        text = f"guardrails held; step {following + 1} of {len(plan.steps)}: {_named(plan, traffic)}"
        return _decided(state, Action.STEP, text, traffic, step=following, since=None)
    if plan.kind == "shadow":
        text = f"the shadow {plan.candidate_version} was good; it leaves"
        return _decided(state, Action.CONCLUDE, text, plan.baseline(), phase=Phase.CONCLUDING, since=None)
    return promote(
        plan, state, f"guardrails held at {step.weight}%; {plan.candidate_version} takes all traffic"
    )


def _blind(plan: Plan, state: State, verdict: Verdict, now: float) -> Decision:
    """Holds, for so long; then it is rolled back."""
    since = now if state.blind_since is None else state.blind_since
    text = "; ".join(verdict.missing)
    if now - since >= plan.patience_s:
        return roll_back(plan, state, f"not enough data for {plan.patience_s:.0f} s: {text}")
    text = f"not enough data yet: {text}"
    return Decision(Action.HOLD, replace(state, blind_since=since, waiting=text), None, text)


def _decided(
    state: State, action: Action, message: str, traffic: Traffic | None = None, **changes: object
) -> Decision:
    counted = replace(state, decision=state.decision + 1, action=action, message=message, waiting="")
    return Decision(action, replace(counted, **changes), traffic, message)  # type: ignore[arg-type]  # names come from code
