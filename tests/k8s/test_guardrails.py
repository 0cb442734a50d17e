"""One window, judged."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8s.guardrails import BundleSignals, Guardrails, ShadowSignals, Signals, judge
from tests.k8s.worlds import GOOD, HEALTHY

LIMITS = Guardrails()


def test_equal_bundles_are_good() -> None:
    assert judge(LIMITS, GOOD, shadow=False).good
    assert judge(LIMITS, GOOD, shadow=True).good


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"errors": 12.0}, "error rate"),
        ({"degraded": 22.0}, "degraded"),
        ({"empty": 12.0}, "empty"),
        ({"p99_s": 0.12}, "p99"),
        ({"coverage": 0.3}, "coverage"),
        ({"psi": 0.3}, "PSI"),
    ],
)
def test_each_guardrail_breaks_alone(change: dict[str, float], word: str) -> None:
    verdict = judge(LIMITS, replace(GOOD, candidate=replace(HEALTHY, **change)), shadow=False)
    [broken] = verdict.broken
    assert word in broken
    assert not verdict.missing


@pytest.mark.parametrize("field", ["p99_s", "coverage", "psi"])
@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_what_is_unknown_is_not_good(field: str, value: float | None) -> None:
    verdict = judge(LIMITS, replace(GOOD, candidate=replace(HEALTHY, **{field: value})), shadow=False)
    assert not verdict.good
    assert not verdict.broken
    assert len(verdict.missing) == 1


def test_no_signals_and_no_requests_are_not_good() -> None:
    assert judge(LIMITS, None, shadow=False).missing
    assert judge(LIMITS, Signals(), shadow=False).missing
    assert judge(LIMITS, Signals(), shadow=True).missing
    assert judge(replace(LIMITS, minimum_requests=0.0), Signals(), shadow=False).missing


def test_production_needs_requests_too() -> None:
    few = replace(GOOD, production=replace(HEALTHY, requests=10))
    assert judge(LIMITS, few, shadow=False).missing == ("production has 10 of 200 requests",)


def test_a_worse_production_is_no_fault_of_the_candidate() -> None:
    sick = BundleSignals(1_000, 100, 100, 100, p99_s=1.0, coverage=0.2, psi=0.0)
    assert judge(LIMITS, replace(GOOD, production=sick), shadow=False).good


@pytest.mark.parametrize(
    ("shadow", "word"),
    [(ShadowSignals(1_000, 50, 0.8), "error rate"), (ShadowSignals(1_000, 0, 0.1), "overlap")],
)
def test_a_shadow_is_judged_by_its_own_guardrails(shadow: ShadowSignals, word: str) -> None:
    [broken] = judge(LIMITS, replace(GOOD, shadow=shadow), shadow=True).broken
    assert word in broken


def test_a_refusal_breaks_whatever_else() -> None:
    assert judge(LIMITS, Signals(refused=1), shadow=False).broken


@given(st.floats(0, 1_000), st.floats(0, 1_000))
def test_more_errors_never_look_better(fewer: float, more: float) -> None:
    fewer, more = sorted((fewer, more))
    first, second = (
        judge(LIMITS, replace(GOOD, candidate=replace(HEALTHY, errors=errors)), shadow=False)
        for errors in (fewer, more)
    )
    assert bool(first.broken) <= bool(second.broken)
