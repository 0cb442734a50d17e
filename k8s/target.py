"""What a rollout moves traffic on. Implementations: `k8s.rayservice` (a cluster), `k8s.local` (one server).

Does not belong here: when traffic moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from k8s.plan import Rollout
from serving.config import Traffic


@dataclass(frozen=True, slots=True)
class Observed:
    """Attributes:
    traffic: that is wanted now, or None where what is written is none.
    revision: opaque; a write with it succeeds only if nobody has written since.
    versions: bundle URL → the version that labels its metrics, where the target knows better than its URL.
    refused: bundle URL → why it was not taken, and by whom, as far as the target knows.
    behind: who does not serve this traffic yet → what it does instead; empty where all that serve do.
    problem: why `traffic` is None.
    """

    traffic: Traffic | None
    revision: str
    versions: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    behind: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """The rollout that is kept; `revision` as in `Observed`."""

    rollout: Rollout
    revision: str


class Target(Protocol):
    """Every method raises `ControlError`s: Unavailable, Forbidden, NotFound, Rejected."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    def read(self) -> Observed: ...

    def write(self, traffic: Traffic, revision: str) -> None:
        """Raises Conflict where the revision is old."""
        ...

    def load(self) -> Record | None:
        """The latest rollout, over or not; None where there has been none."""
        ...

    def save(self, rollout: Rollout, revision: str | None) -> None:
        """Keeps it in place of the record of that revision; None: in place of nothing.

        Raises:
            Conflict: another record is there now.
        """
        ...

    def announce(self, rollout: Rollout) -> None:
        """Makes the latest decision known, once: again for the same decision does nothing."""
        ...

    def hurry(self, behind: Mapping[str, str]) -> None:
        """Has those look who are behind (`Observed.behind`), where that can be done."""
        ...

    def tend(self) -> str:
        """Looks after the traffic while no rollout runs; says what is wrong with it, or nothing."""
        ...

    def wait(self, seconds: float) -> None:
        """Returns when traffic may have changed, at the latest after so many seconds."""
        ...
