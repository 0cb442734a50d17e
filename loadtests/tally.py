"""What people of a load test met, added up; workers send theirs to the one that judges.

Does not belong here: Locust, and what is good enough (`loadtests.slo`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from loadtests.slo import Outcome

KEPT = 200_000
"""Latencies kept; of more, a test's end is enough to judge by. 8 bytes each in memory, 20 on the wire."""

NAMED = 1_000
"""Failures whose asker is kept, to see whom a fault met."""


@dataclass(slots=True)
class Tally:
    """Attributes:
    versions: answers by the version of the bundle that gave them.
    failed_for: who asked when a request failed.
    """

    asked: int = 0
    failed: int = 0
    lost: int = 0
    degraded: int = 0
    versions: dict[str, int] = field(default_factory=dict)
    failed_for: list[str] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)

    def answered(self, milliseconds: float, body: Mapping[str, Any]) -> None:
        self.degraded += bool(body.get("degraded"))
        self._count(body["model"]["version"], 1)
        if len(self.latencies_ms) < KEPT:
            self.latencies_ms.append(milliseconds)

    def fail(self, who: str) -> None:
        self.failed += 1
        if len(self.failed_for) < NAMED:
            self.failed_for.append(who)

    def taken(self) -> dict[str, Any]:
        """Everything so far, as JSON takes it; counting starts anew."""
        report, fresh = asdict(self), Tally()
        for each in fields(self):
            setattr(self, each.name, getattr(fresh, each.name))
        return report

    def add(self, report: Mapping[str, Any]) -> None:
        """What another counted."""
        for name in ("asked", "failed", "lost", "degraded"):
            setattr(self, name, getattr(self, name) + report[name])
        for version, answers in report["versions"].items():
            self._count(version, answers)
        self.failed_for = (self.failed_for + report["failed_for"])[:NAMED]
        self.latencies_ms = (self.latencies_ms + report["latencies_ms"])[:KEPT]

    def outcome(self) -> Outcome:
        return Outcome(self.asked, self.failed, self.lost, self.degraded, self.latencies_ms)

    def _count(self, version: str, answers: int) -> None:
        self.versions[version] = self.versions.get(version, 0) + answers
