"""What the tests of the control plane share: a plan, a target in memory, and signals on demand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from k8s.errors import Conflict, Unavailable
from k8s.guardrails import BundleSignals, Guardrails, ShadowSignals, Signals
from k8s.plan import Plan, Rollout, Step
from k8s.target import Observed, Record
from serving.config import Traffic

OLD, NEW = "s3://bundles/v1", "s3://bundles/v2"

HEALTHY = BundleSignals(1_000, 1, 1, 1, p99_s=0.05, coverage=0.5, psi=0.02)
GOOD = Signals(HEALTHY, HEALTHY, ShadowSignals(1_000, 1, 0.8))
ERRORS = replace(GOOD, candidate=replace(HEALTHY, errors=50), shadow=ShadowSignals(1_000, 50, 0.8))


def plan(
    *weights: int, kind: str = "canary", seconds: float = 60.0, window_s: float = 20.0, **more: object
) -> Plan:
    steps = tuple(Step(weight, seconds) for weight in (weights or (5, 50) if kind == "canary" else (0,)))
    return Plan(
        id="20260101000000-abc",
        kind=kind,  # type: ignore[arg-type]  # parameters of a test are wider
        candidate=NEW,
        candidate_version="v2",
        production=OLD,
        production_version="v1",
        origin=Traffic.of(OLD),
        steps=steps,
        window_s=window_s,
        guardrails=Guardrails(),
        **more,  # type: ignore[arg-type]  # parameters of a test are wider
    )


class Killed(BaseException):
    """The controller's process ends here."""


@dataclass
class MemoryTarget:
    """A target whose every outside action may be the controller's last: `fuse` counts down to its death, and
    `after` says whether the fatal action still takes effect."""

    traffic: Traffic | None
    record: Rollout | None = None
    refused: dict[str, str] = field(default_factory=dict)
    behind: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    hurried: int = 0
    written: list[Traffic] = field(default_factory=list)
    events: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    revision: int = 0
    record_revision: int = 0
    fuse: int = -1
    after: bool = False
    waited: Callable[[float], None] = lambda _: None

    @property
    def name(self) -> str:
        return "memory"

    def read(self) -> Observed:
        return Observed(self.traffic, str(self.revision), self.versions, self.refused, self.behind)

    def write(self, traffic: Traffic, revision: str) -> None:
        def effect() -> None:
            if revision != str(self.revision):
                raise Conflict("somebody else wrote traffic")
            self.by_hand(traffic)
            self.written.append(traffic)

        self._act(effect)

    def by_hand(self, traffic: Traffic | None) -> None:
        self.traffic, self.revision = traffic, self.revision + 1

    def load(self) -> Record | None:
        return None if self.record is None else Record(self.record, str(self.record_revision))

    def save(self, rollout: Rollout, revision: str | None) -> None:
        def effect() -> None:
            if revision != (None if self.record is None else str(self.record_revision)):
                raise Conflict("somebody else wrote the record")
            self.record, self.record_revision = rollout, self.record_revision + 1

        self._act(effect)

    def announce(self, rollout: Rollout) -> None:
        key = (rollout.plan.id, rollout.state.decision)
        self._act(lambda: self.events.setdefault(key, (rollout.state.action, rollout.state.message)))

    def hurry(self, behind: Mapping[str, str]) -> None:
        self.hurried += len(behind)

    def tend(self) -> str:
        return ""

    def wait(self, seconds: float) -> None:
        self.waited(seconds)

    def _act(self, effect: Callable[[], object]) -> None:
        if self.fuse == 0:
            self.fuse = -1
            if self.after:
                effect()
            raise Killed
        self.fuse -= 1
        effect()


@dataclass
class Told:
    """A signal source that says what it was told; None is a Prometheus that does not answer."""

    now: Signals | None = None
    windows: list[float] = field(default_factory=list)

    def read(self, production: str, candidate: str, window_s: float) -> Signals:
        assert (production, candidate) == ("v1", "v2")
        self.windows.append(window_s)
        if self.now is None:
            raise Unavailable("no Prometheus")
        return self.now


@dataclass
class Clock:
    """Time that passes only where somebody waits."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
