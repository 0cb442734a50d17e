"""What a candidate must not do: limits, and the judgement of one evaluation window. Pure.

Does not belong here: where the numbers come from (`k8s.signals`), what follows (`k8s.rollout`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BundleSignals:
    """One bundle over one window. Counts may be fractions (Prometheus extrapolates); None is unknown.

    Attributes:
        requests, errors, degraded, empty: answers in the window.
        p99_s: seconds.
        coverage: share of the catalogue in its last answers, 0..1.
        psi: population stability index of its scores against production's.
    """

    requests: float = 0.0
    errors: float = 0.0
    degraded: float = 0.0
    empty: float = 0.0
    p99_s: float | None = None
    coverage: float | None = None
    psi: float | None = None


@dataclass(frozen=True, slots=True)
class ShadowSignals:
    """Copies sent to a shadow over one window; `overlap` is the mean overlap@k with production, 0..1. Copies
    dropped under load say nothing about the bundle and are not among the requests."""

    requests: float = 0.0
    errors: float = 0.0
    overlap: float | None = None


@dataclass(frozen=True, slots=True)
class Signals:
    """`refused` counts replicas that would not take a bundle in the window."""

    production: BundleSignals = BundleSignals()
    candidate: BundleSignals = BundleSignals()
    shadow: ShadowSignals = ShadowSignals()
    refused: float = 0.0


@dataclass(frozen=True, slots=True)
class Guardrails:
    """The limits; a candidate breaks one by going beyond it.

    Attributes:
        error_rate: difference of the shares of failed answers. One point is ten times what 99.9% allows.
        p99_ratio: candidate's p99 by production's. Simulated on the buckets of `serving.observe.prometheus`,
            200 answers of equal bundles (log-normal, sigma up to 1) look 1.5 times apart in 6% of windows by
            chance, twice in 0.1%.
        degraded_rate: difference of the shares of degraded answers.
        empty_rate: difference of the shares of answers without an item.
        coverage_drop: share of production's coverage that may be lost. A collapse onto popular items loses
            most of it; a third is a first guess, to be set by what your trainings differ.
        psi: population stability index of scores; from 0.25 on it is called a major shift in credit scoring,
            where it comes from (Siddiqi 2006). A model of another family may need more.
        overlap: the least mean overlap@k of a shadow. A broken item table shares almost nothing; how much two
            good models share depends on the data: a first guess, too.
        shadow_error_rate: share of a shadow's copies that may fail.
        minimum_requests: answers of each bundle in the window below which nothing is judged; with 200, one
            point of errors is two answers.
    """

    error_rate: float = 0.01
    p99_ratio: float = 2.0
    degraded_rate: float = 0.02
    empty_rate: float = 0.01
    coverage_drop: float = 0.3
    psi: float = 0.25
    overlap: float = 0.3
    shadow_error_rate: float = 0.01
    minimum_requests: float = 200.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One window, judged.

    Attributes:
        broken: guardrails beyond their limit, in words.
        missing: what could not be judged, in words. Not good: not known.
    """

    broken: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return not self.broken and not self.missing


def judge(limits: Guardrails, signals: Signals | None, *, shadow: bool) -> Verdict:
    """None for signals: nobody could be asked."""
    if signals is None:
        return Verdict(missing=("no signals",))
    if signals.refused > 0:
        return Verdict(broken=(f"replicas refused a bundle {signals.refused:.0f} times",))
    checks = list(_shadow_checks(limits, signals.shadow) if shadow else _canary_checks(limits, signals))
    return Verdict(
        broken=tuple(f"{c.name} {c.value:.4g}, limit {c.limit:g}" for c in checks if c.broken),
        missing=tuple(f"{c.name} unknown" if c.value is None else c.name for c in checks if c.missing),
    )


@dataclass(frozen=True, slots=True)
class _Check:
    """`least`: the limit bounds the value from below."""

    name: str
    value: float | None
    limit: float
    least: bool = False
    gate: bool = False

    @property
    def missing(self) -> bool:
        return self.value is None or (self.gate and self.value < self.limit)

    @property
    def broken(self) -> bool:
        if self.value is None or self.gate:
            return False
        return self.value < self.limit if self.least else self.value > self.limit


def _shadow_checks(limits: Guardrails, seen: ShadowSignals) -> Iterator[_Check]:
    yield (gate := _enough("shadow", seen.requests, limits))
    if not gate.missing:
        yield _Check("shadow error rate", seen.errors / seen.requests, limits.shadow_error_rate)
        yield _Check("shadow overlap", _known(seen.overlap), limits.overlap, least=True)


def _canary_checks(limits: Guardrails, signals: Signals) -> Iterator[_Check]:
    ours, theirs = signals.candidate, signals.production
    gates = [_enough("candidate", ours.requests, limits), _enough("production", theirs.requests, limits)]
    yield from gates
    if any(gate.missing for gate in gates):
        return

    def difference(mine: float, other: float) -> float:
        return mine / ours.requests - other / theirs.requests

    yield _Check("error rate difference", difference(ours.errors, theirs.errors), limits.error_rate)
    yield _Check("degraded rate difference", difference(ours.degraded, theirs.degraded), limits.degraded_rate)
    yield _Check("empty rate difference", difference(ours.empty, theirs.empty), limits.empty_rate)
    yield _Check("p99 ratio", _ratio(ours.p99_s, theirs.p99_s), limits.p99_ratio)
    kept = _ratio(ours.coverage, theirs.coverage)
    yield _Check("coverage drop", None if kept is None else 1 - kept, limits.coverage_drop)
    yield _Check("score PSI", _known(ours.psi), limits.psi)


def _enough(name: str, requests: float, limits: Guardrails) -> _Check:
    text = f"{name} has {requests:.0f} of {limits.minimum_requests:.0f} requests"
    return _Check(text, requests, max(limits.minimum_requests, 1.0), gate=True)


def _ratio(mine: float | None, other: float | None) -> float | None:
    mine, other = _known(mine), _known(other)
    return None if mine is None or other is None or other <= 0 else mine / other


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
