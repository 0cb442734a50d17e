"""Drives a rollout: read, decide, remember, write, announce, wait; again until it is over. All memory is in
the target's record, so any number of drivers may run and die: revisions arbitrate between them.

Does not belong here: decisions (`k8s.rollout`).
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from k8s.errors import Conflict, ControlError, NotFound, Rejected, Unavailable
from k8s.guardrails import Signals
from k8s.plan import Phase, Rollout
from k8s.rollout import Action, Decision, decide
from k8s.signals import SignalSource
from k8s.target import Observed, Record, Target

log = logging.getLogger(__name__)

POLLS = 4
"""Looks in a window. A fault fills the window one window after it began, and is seen a quarter later: in less
than two windows."""

LONGEST_POLL_S = 30.0
"""s; so that a hand on the traffic is seen soon whatever the window."""

AWAY_S = 5.0
"""s until what does not answer is asked again."""

CONFLICTS = 6
"""Attempts in one turn when somebody else writes; KubeRay writes a RayService's status every few seconds."""

CONFLICT_S = 0.2
"""s before the second attempt at most; doubled each time, and random, so that two writers part."""

CONFIRM_S = 2.0
"""s between two looks while replicas take what was written: they need about that long."""

EVENT_S = 3_600.0
"""s an API server keeps an event, unless it is told otherwise."""

Said = Callable[[Rollout, Decision], None]


@dataclass(slots=True)
class Driver:
    """One rollout's driver.

    Attributes:
        signals: None where nobody can be asked: it will hold, and roll back in the end.
        said: told each decision, holds too.
    """

    target: Target
    signals: SignalSource | None
    said: Said = lambda _rollout, _decision: None
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    _announced: tuple[str, int] | None = field(default=None, init=False)
    _applied: bool = field(default=False, init=False)
    _rejected: str = field(default="", init=False)

    def drive(self) -> Rollout:
        """Until the rollout is over. What does not answer is asked again, for ever.

        Raises:
            ControlError: what waiting does not mend: no permission, no such target.
        """
        while True:
            try:
                rollout, decision = self.turn()
            except Unavailable as error:
                log.warning("%s: %s", self.target.name, error)
                self.sleep(AWAY_S)
                continue
            if rollout.state.phase.over:
                return rollout
            if (rest_s := self.rest_s(rollout, decision)) > 0:
                self.target.wait(rest_s)

    def rest_s(self, rollout: Rollout, decision: Decision) -> float:
        """s until the next look: at once after a decision, and after a first write of what was due."""
        if decision.action is Action.WAIT:
            return min(CONFIRM_S, poll_s(rollout))
        again = decision.action is Action.APPLY and self._applied
        self._applied = decision.action is Action.APPLY
        return poll_s(rollout) if decision.action is Action.HOLD or again else 0.0

    def settle(self, rollout: Rollout) -> None:
        """Tells the end of a rollout that its driver did not live to tell. Once its event would be gone
        again, nobody knows whether it was told."""
        if self.clock() - rollout.state.decided < EVENT_S:
            self._announce(rollout)

    def turn(self) -> tuple[Rollout, Decision]:
        """Decides once and carries it out; where somebody else wrote meanwhile, from the start again."""
        for attempt in range(CONFLICTS):
            record = self._load()
            observed = self.target.read()
            record = replace(record, rollout=named(record.rollout, observed.versions))
            decision = self._decide(record.rollout, observed)
            try:
                return self._carry_out(record, observed, decision), decision
            except Conflict as conflict:
                log.info("%s: %s", self.target.name, conflict)
                self.sleep(random.uniform(0, CONFLICT_S * 2**attempt))
        text = "others write all the time; the next turn decides again"
        return record.rollout, Decision(Action.HOLD, record.rollout.state, None, text)

    def _load(self) -> Record:
        record = self.target.load()
        if record is None:
            raise NotFound(f"there is no rollout of {self.target.name}; start one: `marquee rollout canary`")
        self._announce(record.rollout)
        return record

    def _decide(self, rollout: Rollout, observed: Observed) -> Decision:
        plan, state, now = rollout.plan, rollout.state, self.clock()
        refused = observed.refused.get(plan.candidate, "") or self._rejected
        seen = self._read_signals(rollout, now) if state.phase is Phase.PROGRESSING else None
        return decide(plan, state, observed.traffic, seen, now, refused, observed.behind)

    def _read_signals(self, rollout: Rollout, now: float) -> Signals | None:
        """No older than the candidate's first exposure: what it did in an earlier rollout does not count."""
        plan, exposed = rollout.plan, rollout.state.exposed
        window = plan.window_s if exposed is None else min(plan.window_s, max(1.0, now - exposed))
        if self.signals is None:
            return None
        try:
            return self.signals.read(plan.production_version, plan.candidate_version, window)
        except Unavailable as error:
            log.warning("%s", error)
            return None

    def _carry_out(self, record: Record, observed: Observed, decision: Decision) -> Rollout:
        """Remembers the intention, then acts: killed in between, the next driver knows what was meant."""
        rollout, before = record.rollout, record.rollout.state
        if decision.state != before:
            new = decision.state.decision != before.decision
            state = replace(decision.state, decided=self.clock()) if new else decision.state
            rollout = replace(rollout, state=state)
            self.target.save(rollout, record.revision)
        try:
            if decision.traffic is not None:
                self.target.write(decision.traffic, observed.revision)
            elif decision.action is Action.WAIT:
                self.target.hurry(observed.behind)
        except Rejected as error:
            if rollout.state.phase is not Phase.PROGRESSING:
                raise
            self._rejected = str(error)
        self._announce(rollout)
        self.said(rollout, decision)
        return rollout

    def _announce(self, rollout: Rollout) -> None:
        """Once by this driver; the target sees to once among all. Words must not hold up deeds."""
        key = (rollout.plan.id, rollout.state.decision)
        if key == self._announced:
            return
        try:
            self.target.announce(rollout)
            self._announced = key
        except ControlError as error:
            log.warning("a decision could not be recorded: %s", error)


def named(rollout: Rollout, versions: Mapping[str, str]) -> Rollout:
    """With the versions that replicas report, which label their metrics: a URL may end otherwise."""
    plan = rollout.plan
    candidate = versions.get(plan.candidate, plan.candidate_version)
    production = versions.get(plan.production, plan.production_version)
    if (candidate, production) == (plan.candidate_version, plan.production_version):
        return rollout
    return replace(rollout, plan=replace(plan, candidate_version=candidate, production_version=production))


def poll_s(rollout: Rollout) -> float:
    """s between two looks."""
    return min(LONGEST_POLL_S, rollout.plan.window_s / POLLS)
