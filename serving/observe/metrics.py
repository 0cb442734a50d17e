"""What the executor reports of each request. A protocol here, so that the core owes nothing to Prometheus."""

from __future__ import annotations

from typing import Protocol

from serving.types import Recommendation


class Recorder(Protocol):
    def stage(self, stage: str, seconds: float, candidates_in: int, candidates_out: int) -> None:
        """One stage of one request ran, well or not."""
        ...

    def lost(self, stage: str, reason: str) -> None:
        """A stage failed; `reason` is the class of its error, never its text (bounded cardinality)."""
        ...

    def cache(self, hit: bool) -> None:
        """An answer was looked up among those computed before."""
        ...

    def answered(self, recommendation: Recommendation) -> None:
        """A request got its answer."""
        ...


class NullRecorder:
    """Records nothing: offline evaluation and tests."""

    def stage(self, stage: str, seconds: float, candidates_in: int, candidates_out: int) -> None:
        pass

    def lost(self, stage: str, reason: str) -> None:
        pass

    def cache(self, hit: bool) -> None:
        pass

    def answered(self, recommendation: Recommendation) -> None:
        pass
