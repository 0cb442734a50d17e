"""The failure table: every way to lose a stage, and what the answer is then: by an error, by a hang, by a
computation that takes too long, by a broken invariant. The rows from the ranker to the reasons are in
`test_failure_after_retrieval`.

Time is virtual: a stage that hangs costs nothing, and a budget cuts it off to the millisecond.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from serving.batch import Candidates, Queries
from serving.errors import InvalidFilter, Unavailable
from serving.types import Mask, Query, Recommendation
from tests.faults.bench import (
    ALL_SOURCES,
    BUDGETS,
    EASE,
    FAULTS,
    HANGING,
    HISTORY,
    POPULAR,
    RETRIEVED,
    RISING,
    STAGES,
    TOWER,
    Bench,
    gathered,
    shown,
)
from tests.serving.doubles import (
    BestScoreBlender,
    FixedSource,
    LastSelector,
    Named,
    batch_of,
    query_of,
)
from tests.serving.virtual import Fault, fails, hangs, lasts


def test_healthy(bench: Bench) -> None:
    answer = bench.ask()
    assert shown(answer) == [1, 2]
    assert (answer.tier, answer.degraded, len(answer.explanations)) == ("personalized", (), 2)
    assert len(answer.query.history) == 1
    assert bench.counts.losses == []


# Online features → the request goes on as it came.


@FAULTS
def test_without_features_the_query_keeps_its_defaults(bench: Bench, fault: Fault, reason: str) -> None:
    answer = bench.broken(query_hydrator=replace(HISTORY, fault=fault)).ask()
    assert answer.degraded == ("features",)
    assert (len(answer.query.history), answer.query.feature_age_s) == (0, None)
    assert shown(answer) == [1, 2]
    assert bench.counts.losses == [("features", reason)]


# One source → the others. All personal ones → popularity.


@FAULTS
def test_without_one_source_the_others_answer(bench: Bench, fault: Fault, reason: str) -> None:
    answer = bench.broken(sources=(replace(TOWER, fault=fault), EASE, POPULAR)).ask(count=10)
    assert set(shown(answer)) == {3, 4, 5, 6}
    assert (answer.tier, answer.degraded) == ("personalized", ("source:tower",))
    assert bench.counts.losses == [("source:tower", reason)]


@dataclass(frozen=True)
class OutlawSource(Named):
    """Breaks its law in the way given, for any number of requests."""

    crooked: Callable[[Candidates], Candidates | None] = lambda found: found
    personal: bool = True

    def retrieve(self, queries: Queries) -> Candidates:
        found = TOWER.batch.take(np.zeros(len(queries), np.int64))
        return self.crooked(found)  # type: ignore[return-value]  # a fault may be anything


@pytest.mark.parametrize(
    "crooked",
    [
        lambda found: replace(found, item_index=np.ones_like(found.item_index)),
        lambda found: replace(found, retrieval_score=found.retrieval_score[1:]),
        lambda found: replace(found, source=np.zeros(len(found.source) + 1, np.uint32)),
        lambda found: replace(found, row_splits=found.row_splits[:-1]),
        lambda found: replace(found, row_splits=np.append(found.row_splits, found.row_splits[-1])),
        lambda found: None,
    ],
    ids=["an item twice", "fewer scores", "more bits", "a request less", "a request more", "no candidates"],
)
def test_a_source_that_breaks_its_law_is_lost(
    bench: Bench, crooked: Callable[[Candidates], Candidates | None]
) -> None:
    answer = bench.broken(sources=(OutlawSource("tower", crooked=crooked), EASE, POPULAR)).ask(count=10)
    assert set(shown(answer)) == {3, 4, 5, 6}
    assert answer.degraded == ("source:tower",)


@FAULTS
def test_without_personal_sources_popularity_answers(bench: Bench, fault: Fault, reason: str) -> None:
    answer = bench.broken(sources=(replace(TOWER, fault=fault), replace(EASE, fault=fault), POPULAR)).ask()
    assert (answer.tier, answer.degraded) == ("popular", ("source:tower", "source:ease"))
    assert shown(answer) == [5, 6]
    assert bench.counts.losses == [("source:tower", reason), ("source:ease", reason)]


@FAULTS
def test_without_popularity_the_answer_is_still_personal(bench: Bench, fault: Fault, reason: str) -> None:
    answer = bench.broken(sources=(TOWER, replace(POPULAR, fault=fault))).ask()
    assert (answer.tier, answer.degraded) == ("personalized", ("source:popular",))
    assert bench.counts.losses == [("source:popular", reason)]


def test_a_slow_source_is_dropped_at_its_own_budget(bench: Bench) -> None:
    late = lasts(BUDGETS.source / 1e3 + 0.001)
    answer, at = bench.broken(sources=(replace(TOWER, fault=late), EASE, POPULAR)).ask_and_time()
    assert isinstance(answer, Recommendation)
    assert answer.degraded == ("source:tower",)
    assert bench.counts.losses == [("source:tower", "TimeoutError")]
    assert at == pytest.approx(BUDGETS.source / 1e3)


def test_a_source_within_its_budget_is_waited_for(bench: Bench) -> None:
    in_time = lasts(BUDGETS.source / 1e3 - 0.001)
    answer = bench.broken(sources=(replace(TOWER, fault=in_time), EASE, POPULAR)).ask()
    assert answer.degraded == ()


def test_every_source_has_its_own_budget(bench: Bench) -> None:
    slow = lasts(BUDGETS.source / 1e3 - 0.001)
    sources = tuple(replace(source, fault=slow) for source in (TOWER, EASE, POPULAR))
    answer = bench.broken(sources=sources).ask(deadline=ALL_SOURCES)
    assert answer.degraded == ()


def test_what_a_source_brings_after_its_budget_is_in_no_answer(bench: Bench) -> None:
    """Its thread goes on while the ranker computes, and writes nothing."""
    late, ranking = lasts(BUDGETS.source / 1e3 + 0.01), lasts(BUDGETS.ranker / 2e3)
    stages = {"sources": (replace(TOWER, fault=late), EASE), "scorer": replace(RISING, fault=ranking)}
    answer = bench.broken(**stages).ask(count=10)
    assert set(shown(answer)) == {3, 4}
    assert answer.degraded == ("source:tower",)


class CrookedBlender(Named):
    def blend(self, queries: Queries, brought: Sequence[Candidates | None]) -> Candidates:
        return replace(batch_of([1, 2]), source=np.zeros(1, np.uint32))


@pytest.mark.parametrize(
    ("blender", "reason"),
    [
        (BestScoreBlender("blender", fault=fails), "ConnectionError"),
        (BestScoreBlender("blender", fault=hangs), "TimeoutError"),
        (CrookedBlender("blender"), "InvariantViolation"),
    ],
)
def test_without_a_blend_the_first_source_that_brought_anything_answers(
    bench: Bench, blender: BestScoreBlender | CrookedBlender, reason: str
) -> None:
    answer = bench.broken(sources=(FixedSource("none"), EASE, POPULAR), blender=blender).ask()
    assert set(shown(answer)) == {3, 4}
    assert answer.degraded == ("blend",)
    assert bench.counts.losses == [("blend", reason)]


# Everything, or the deadline with nothing in hand → Unavailable.


@FAULTS
def test_without_any_source_it_is_unavailable(bench: Bench, fault: Fault, reason: str) -> None:
    sources = tuple(replace(source, fault=fault) for source in (TOWER, EASE, POPULAR))
    with pytest.raises(Unavailable, match="no source answered") as caught:
        bench.broken(sources=sources).ask()
    assert caught.value.retry_after_s > 0
    assert bench.counts.answers == 0
    assert {reason for _, reason in bench.counts.losses} == {reason}


def test_a_deadline_already_past_is_unavailable(bench: Bench) -> None:
    with pytest.raises(Unavailable, match="deadline passed before any source answered"):
        bench.ask(deadline=0.0)


def test_a_deadline_during_retrieval_is_unavailable(bench: Bench) -> None:
    sources = tuple(replace(source, fault=hangs) for source in (TOWER, EASE, POPULAR))
    with pytest.raises(Unavailable, match="deadline passed before any source answered"):
        bench.broken(sources=sources).ask(deadline=BUDGETS.source / 2e3)


def test_a_deadline_after_retrieval_answers_with_what_is_in_hand(bench: Bench) -> None:
    half = BUDGETS.ranker / 2e3
    answer = bench.broken(scorer=replace(RISING, fault=hangs)).ask(deadline=half)
    assert shown(answer) == RETRIEVED[:2]
    assert answer.degraded == ("ranker", "diversity")
    assert bench.counts.losses == [("ranker", "TimeoutError"), ("diversity", "Deadline")]


@pytest.mark.parametrize("stages", HANGING, ids=STAGES)
def test_whatever_hangs_the_deadline_is_kept(bench: Bench, stages: dict[str, object]) -> None:
    _, at = bench.broken(**stages).ask_and_time(deadline=0.02, explain=True)
    assert at == pytest.approx(0.02)  # and not at the stage's budget, which is longer


def test_lost_stages_add_up(bench: Bench) -> None:
    answer = bench.broken(
        query_hydrator=replace(HISTORY, fault=hangs),
        sources=(replace(TOWER, fault=fails), EASE, POPULAR),
        scorer=replace(RISING, fault=hangs),
        selector=LastSelector("selector", fault=fails),
    ).ask()
    assert shown(answer) == [3, 4]
    assert answer.degraded == ("features", "source:tower", "ranker", "diversity")


# Filters fail closed: what could not be checked is not shown.


@dataclass(frozen=True)
class BrokenFilter(Named):
    keeps: Any = None

    def keep(self, queries: Queries, candidates: Candidates) -> Mask:
        self.fault.compute()
        return self.keeps  # type: ignore[no-any-return]  # a fault may be anything


@pytest.mark.parametrize(
    "broken",
    [
        BrokenFilter("seen", fault=fails),
        BrokenFilter("seen", fault=hangs),
        BrokenFilter("seen"),
        BrokenFilter("seen", keeps=np.ones(1, np.bool_)),
        BrokenFilter("seen", keeps=np.ones(99, np.bool_)),
    ],
    ids=["fails", "hangs", "no mask", "a mask of one row", "a mask of more rows"],
)
def test_without_a_filter_it_is_unavailable(bench: Bench, broken: BrokenFilter) -> None:
    with pytest.raises(Unavailable, match="filter failed"):
        bench.broken(filters=(broken,)).ask()
    assert [stage for stage, _ in bench.counts.losses] == ["filter"]
    assert bench.counts.answers == 0


def test_a_wrong_filter_is_the_clients_mistake_and_not_a_loss(bench: Bench) -> None:
    def refuses(query: Query) -> None:
        if query.filter is not None:
            raise InvalidFilter("year", "injected")

    wrong, right = gathered(
        bench.broken(admit=refuses), query_of(filter={"year": {"is": 1}}), query_of(count=2)
    )
    assert isinstance(wrong, InvalidFilter)
    assert isinstance(right, Recommendation)
    assert (shown(right), right.degraded, bench.counts.losses) == ([1, 2], (), [])
