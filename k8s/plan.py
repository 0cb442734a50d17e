"""What a rollout is to do (`Plan`), how far it is (`State`), and both as JSON, which outlives the controller.

Does not belong here: what to do next (`k8s.rollout`), where it is kept (`k8s.target`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from k8s.errors import ControlError
from k8s.guardrails import Guardrails
from serving.config import Traffic, TrafficEntry


class PlanError(ControlError):
    """A plan that makes no sense; the text says why."""


class DamagedRecord(ControlError):
    """A record that this version of Marquee cannot read."""


class Phase(StrEnum):
    PROGRESSING = "Progressing"
    PROMOTING = "Promoting"
    ROLLING_BACK = "RollingBack"
    CONCLUDING = "Concluding"
    """A shadow has shown itself good, and leaves."""
    PROMOTED = "Promoted"
    ROLLED_BACK = "RolledBack"
    PASSED = "Passed"
    """A shadow that was good."""
    STOPPED = "Stopped"
    """Somebody else moves traffic: the rollout keeps its hands off."""

    @property
    def over(self) -> bool:
        return self in (Phase.PROMOTED, Phase.ROLLED_BACK, Phase.PASSED, Phase.STOPPED)

    @property
    def good(self) -> bool:
        return self in (Phase.PROMOTED, Phase.PASSED)


@dataclass(frozen=True, slots=True)
class Step:
    """Attributes:
    weight: percent of users the candidate answers; 0 for a shadow.
    seconds: how long at least, counted from when this traffic was first seen in place.
    """

    weight: int
    seconds: float


DEFAULT_STEPS = (Step(5, 600.0), Step(25, 600.0), Step(50, 600.0))
"""5% bounds what a bad bundle can harm; 25% and 50% show what load does. Ten minutes are five windows."""

DEFAULT_SHADOW_S = 1_800.0
"""s; a shadow harms nobody, so it may take long enough to see some thousands of requests."""

WINDOW_S = 120.0
"""s; one evaluation window. A rate needs four scrapes of Prometheus (15-30 s each); a bad bundle is rolled
back within two windows."""

PATIENCE_WINDOWS = 10
"""Windows a step may stay without enough data before it is rolled back: data that does not come is not good
news, and traffic must not stay split for ever."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Fixed when the rollout starts.

    Attributes:
        id: names the rollout; also in the names of its events.
        kind: canary answers users, shadow does not.
        candidate, production: URLs of the bundles; `*_version` label their metrics.
        origin: the traffic found at the start.
        steps: none where all traffic is moved at once, by hand.
        window_s: length of an evaluation window.
    """

    id: str
    kind: Literal["canary", "shadow"]
    candidate: str
    candidate_version: str
    production: str
    production_version: str
    origin: Traffic
    steps: tuple[Step, ...]
    window_s: float = WINDOW_S
    patience_windows: int = PATIENCE_WINDOWS
    guardrails: Guardrails = field(default_factory=Guardrails)

    def __post_init__(self) -> None:
        if self.candidate == self.production:
            raise PlanError(f"{self.candidate} is in production already")
        if self.window_s <= 0 or self.patience_windows < 1:
            raise PlanError("the window must be above 0 s and the patience at least 1 window")
        if any(step.seconds < self.window_s for step in self.steps):
            raise PlanError(f"each step must last at least one evaluation window ({self.window_s:g} s)")
        weights = [step.weight for step in self.steps]
        if self.kind == "shadow" and weights not in ([0], []):
            raise PlanError("a shadow has one step of weight 0")
        if self.kind == "canary" and (
            not all(1 <= weight <= 99 for weight in weights) or weights != sorted(set(weights))
        ):
            raise PlanError("the weights of the steps must grow, from 1 to 99 percent")

    @property
    def versions(self) -> dict[str, str]:
        """By URL."""
        return {self.production: self.production_version, self.candidate: self.candidate_version}

    @property
    def patience_s(self) -> float:
        return self.patience_windows * self.window_s

    def at(self, step: int) -> Traffic:
        """The traffic of a step; before the first one, what was found."""
        if step < 0:
            return self.origin
        if self.kind == "shadow":
            candidate = TrafficEntry(bundle=self.candidate, shadow=True)
        else:
            candidate = TrafficEntry(bundle=self.candidate, weight=self.steps[step].weight)
        production = TrafficEntry(bundle=self.production, weight=100 - self.steps[step].weight)
        return Traffic(traffic=(production, candidate))

    def promoted(self) -> Traffic:
        return Traffic.of(self.candidate)

    def baseline(self) -> Traffic:
        return Traffic.of(self.production)


@dataclass(frozen=True, slots=True)
class State:
    """All that a controller must remember; everything else it can see.

    Attributes:
        step: the step in force; its traffic may still have to be written. -1: before the first one.
        since: unix s when that step's traffic was first seen in place; None before.
        exposed: unix s when the first step's traffic was first seen in place: no signal is older.
        blind_since: unix s since when data has been missing, or a step has not taken hold; None otherwise.
        decision: counts decisions; names their events.
        decided: unix s of the latest decision.
        action, message: the latest decision, in words.
        waiting: what keeps it where it is, in words: who has not taken the traffic that was written, or which
            data is missing; empty where nothing does.
    """

    phase: Phase = Phase.PROGRESSING
    step: int = 0
    since: float | None = None
    exposed: float | None = None
    blind_since: float | None = None
    decision: int = 0
    decided: float = 0.0
    action: str = "Started"
    message: str = ""
    waiting: str = ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """What is kept, as one JSON document."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    plan: Plan
    state: State

    def __post_init__(self) -> None:
        if (
            not (-1 if self.state.phase is not Phase.PROGRESSING else 0)
            <= self.state.step
            < len(self.plan.steps)
        ):
            raise PlanError(f"the plan has no step {self.state.step}")


_ADAPTER = TypeAdapter(Rollout)


def to_json(rollout: Rollout) -> str:
    return _ADAPTER.dump_json(rollout).decode()


def from_json(text: str) -> Rollout:
    """Raises DamagedRecord where the text is not what `to_json` wrote."""
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DamagedRecord(
            f"the rollout's record is damaged at {where}: {first['msg']}; delete it"
        ) from None
    except PlanError as error:
        raise DamagedRecord(f"the rollout's record is damaged: {error}; delete it") from None
