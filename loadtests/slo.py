"""What a load test has to find, and what of it was missed. Pure: no load, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Objectives:
    """What people may expect of the service. `failed` and `p99_ms` are what the burn-rate alerts watch
    (docs/observability.md).

    Attributes:
        failed: share of requests without an answer at the first attempt: three nines.
        lost: share of requests that their retries did not save either.
        p99_ms: of answered requests.
        degraded: share of answers that lack something.
    """

    failed: float = 0.001
    lost: float = 0.0
    p99_ms: float = 100.0
    degraded: float = 0.01


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a test saw.

    Attributes:
        asked: requests, retries not among them.
        failed: without an answer at the first attempt; lost: nor at the last.
        degraded: answers that lack something.
        latencies_ms: of the answers.
    """

    asked: int
    failed: int
    lost: int
    degraded: int
    latencies_ms: Sequence[float]


def breaches(outcome: Outcome, objectives: Objectives) -> list[str]:
    """One line for each objective that was missed; a test without an answer misses all there are."""
    answered = len(outcome.latencies_ms)
    if not answered:
        return [f"nothing was answered ({outcome.asked} requests)"]
    p99 = float(np.percentile(outcome.latencies_ms, 99))
    measured = (
        ("requests failed", outcome.failed / outcome.asked, objectives.failed, "{:.3%}"),
        ("requests lost after their retry", outcome.lost / outcome.asked, objectives.lost, "{:.3%}"),
        ("answers degraded", outcome.degraded / answered, objectives.degraded, "{:.2%}"),
        ("p99", p99, objectives.p99_ms, "{:.0f} ms"),
    )
    return [
        f"{what}: {form.format(found)}, at most {form.format(most)}"
        for what, found, most, form in measured
        if found > most
    ]
