"""What people ask of a rollout: start it, promote it, roll it back. Each only writes the record; a driver
does the rest.

Does not belong here: options and output (`k8s.rollout_cli`).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from k8s.errors import Conflict, ControlError
from k8s.guardrails import Guardrails
from k8s.plan import PATIENCE_WINDOWS, WINDOW_S, Phase, Plan, Rollout, State, Step
from k8s.rollout import describe, promote, roll_back, version_of
from k8s.target import Observed, Record, Target
from serving.config import Traffic

ATTEMPTS = 5
"""Times somebody else may write the record meanwhile."""


class NotPossible(ControlError):
    """Nothing to do that with, in the state things are in."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A rollout as it is asked for."""

    kind: Literal["canary", "shadow"]
    bundle: str
    steps: tuple[Step, ...]
    version: str | None = None
    window_s: float = WINDOW_S
    patience_windows: int = PATIENCE_WINDOWS
    guardrails: Guardrails = field(default_factory=Guardrails)


def start(target: Target, wish: Wish) -> Rollout:
    """Raises NotPossible where another rollout is under way or traffic is split already."""
    if not wish.steps:
        raise NotPossible("a rollout needs at least one step")

    def started(record: Record | None, observed: Observed) -> Rollout:
        if record is not None and not record.rollout.state.phase.over:
            raise NotPossible(
                f"a rollout of {record.rollout.plan.candidate_version} is under way: "
                "`marquee rollout status`, `promote` or `rollback` first"
            )
        traffic = _table(observed)
        if len(traffic.traffic) > 1:
            split = describe(traffic, observed.versions)
            raise NotPossible(f"traffic is split already ({split}): `marquee rollout rollback` first")
        plan = _plan(wish, observed, traffic)
        return Rollout(
            plan, State(decided=time.time(), message=f"{wish.kind} of {plan.candidate_version} begins")
        )

    return _write(target, started)


def ask_promotion(target: Target, bundle: str | None) -> Rollout:
    """All traffic to the candidate of the rollout under way, to `bundle`, or to the one canary there is."""

    def promoted(record: Record | None, observed: Observed) -> Rollout:
        if record is not None and not record.rollout.state.phase.over:
            plan, state = record.rollout.plan, record.rollout.state
            if bundle not in (None, plan.candidate):
                raise NotPossible(f"a rollout of {plan.candidate} is under way: roll it back first")
            asked = promote(plan, state, f"{plan.candidate_version} is promoted by hand")
            return Rollout(plan, replace(asked.state, decided=time.time()))
        traffic = _table(observed)
        chosen = bundle
        if chosen is None:
            if len(others := [entry.bundle for entry in traffic.traffic[1:]]) != 1:
                raise NotPossible("no single candidate is in traffic: name the bundle to promote")
            chosen = others[0]
        return _at_once(observed, chosen, traffic.traffic[0].bundle, Phase.PROMOTING, "is promoted by hand")

    return _write(target, promoted)


def ask_rollback(target: Target) -> Rollout:
    """The rollout under way, a split made by hand, or the latest promotion: back to production before it."""

    def rolled_back(record: Record | None, observed: Observed) -> Rollout:
        if record is not None and not record.rollout.state.phase.over:
            plan, state = record.rollout.plan, record.rollout.state
            asked = roll_back(plan, state, f"{plan.candidate_version} is rolled back by hand")
            return Rollout(plan, replace(asked.state, decided=time.time()))
        traffic = _table(observed)
        production, *others = [entry.bundle for entry in traffic.traffic]
        if others:
            return _at_once(observed, others[0], production, Phase.ROLLING_BACK, "is rolled back by hand")
        latest = None if record is None else record.rollout
        if latest is None or latest.state.phase is not Phase.PROMOTED or latest.plan.candidate != production:
            raise NotPossible(
                f"nothing to roll back: all traffic is on {production}, and no promotion is known"
            )
        observed = replace(observed, versions={**latest.plan.versions, **observed.versions})
        text = f"takes over again: the promotion of {latest.plan.candidate_version} is undone by hand"
        return _at_once(observed, latest.plan.production, production, Phase.PROMOTING, text)

    return _write(target, rolled_back)


def _write(target: Target, make: Callable[[Record | None, Observed], Rollout]) -> Rollout:
    for _ in range(ATTEMPTS):
        record = target.load()
        rollout = make(record, target.read())
        try:
            target.save(rollout, None if record is None else record.revision)
        except Conflict:
            continue
        return rollout
    raise NotPossible("others write the rollout's record all the time; try again")


def _table(observed: Observed) -> Traffic:
    if observed.traffic is None:
        raise NotPossible(f"{observed.problem or 'the traffic is none'}: mend it by hand first")
    return observed.traffic


def _plan(wish: Wish, observed: Observed, traffic: Traffic) -> Plan:
    production = traffic.traffic[0].bundle
    return Plan(
        id=_new_id(),
        kind=wish.kind,
        candidate=wish.bundle,
        candidate_version=wish.version or _version(observed, wish.bundle),
        production=production,
        production_version=_version(observed, production),
        origin=traffic,
        steps=wish.steps,
        window_s=wish.window_s,
        patience_windows=wish.patience_windows,
        guardrails=wish.guardrails,
    )


def _at_once(observed: Observed, candidate: str, production: str, phase: Phase, text: str) -> Rollout:
    """No steps and no guardrails: somebody knows what he does."""
    plan = _plan_at_once(observed, candidate, production)
    message = f"{plan.candidate_version} {text}"
    return Rollout(plan, State(phase=phase, step=-1, decided=time.time(), action="Asked", message=message))


def _plan_at_once(observed: Observed, candidate: str, production: str) -> Plan:
    return Plan(
        id=_new_id(),
        kind="canary",
        candidate=candidate,
        candidate_version=_version(observed, candidate),
        production=production,
        production_version=_version(observed, production),
        origin=_table(observed),
        steps=(),
    )


def _version(observed: Observed, bundle: str) -> str:
    return observed.versions.get(bundle) or version_of(bundle)


def _new_id() -> str:
    """Sorts by time; is a valid part of a Kubernetes name."""
    return f"{datetime.now(UTC):%Y%m%d%H%M%S}-{secrets.token_hex(3)}"
