import pytest

from loadtests.slo import Objectives, Outcome, breaches

KEPT = Outcome(asked=1_000, failed=1, lost=0, degraded=9, latencies_ms=[50.0] * 999)


def test_what_keeps_every_objective_breaches_none() -> None:
    assert breaches(KEPT, Objectives()) == []


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        (Outcome(1_000, 2, 0, 0, [50.0] * 998), "requests failed: 0.200%, at most 0.100%"),
        (Outcome(1_000, 1, 1, 0, [50.0] * 999), "requests lost after their retry: 0.100%, at most 0.000%"),
        (Outcome(1_000, 0, 0, 11, [50.0] * 1_000), "answers degraded: 1.10%, at most 1.00%"),
        (Outcome(1_000, 0, 0, 0, [50.0] * 980 + [900.0] * 20), "p99: 900 ms, at most 100 ms"),
        (Outcome(3, 3, 3, 0, []), "nothing was answered (3 requests)"),
        (Outcome(0, 0, 0, 0, []), "nothing was answered (0 requests)"),
    ],
)
def test_each_objective_is_missed_by_itself_and_named(outcome: Outcome, line: str) -> None:
    assert breaches(outcome, Objectives()) == [line]
