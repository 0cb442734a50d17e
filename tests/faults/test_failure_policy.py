"""The failure table: every way to lose a stage, and what the answer is then.

Time is virtual: a stage that hangs costs nothing, and a budget cuts it off to the millisecond.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.config import Budgets
from serving.errors import InvalidFilter, Unavailable
from serving.pipeline import SIDE_EFFECT_TIMEOUT_S, RecommendationPipeline
from serving.types import CandidateBatch, Explanation, Mask, Query, Recommendation
from tests.serving.doubles import (
    BestScoreBlender,
    CatalogueHydrator,
    Counts,
    Fault,
    FixedSource,
    HistoryHydrator,
    ItemScorer,
    LastSelector,
    Named,
    Recall,
    ScoreExplainer,
    batch_of,
    fails,
    hangs,
    history_of,
    query_of,
    run,
    takes,
)

N = 10
FAULTS = pytest.mark.parametrize(
    ("fault", "reason"), [(fails, "ConnectionError"), (hangs, "TimeoutError")], ids=["fails", "hangs"]
)
HISTORY = HistoryHydrator("history", history=history_of([9]))
TOWER = FixedSource("tower", batch=batch_of([1, 2, 3]))
EASE = FixedSource("ease", batch=batch_of([3, 4], [5, 4]))
POPULAR = FixedSource("popular", batch=batch_of([5, 6], [0.2, 0.1]), personal=False)
ITEMS = CatalogueHydrator("items", features=np.zeros((N, 2), np.float32))
RISING = ItemScorer("ranker", scores=np.arange(N, dtype=np.float32))
BUDGETS = Budgets()

RETRIEVED = [3, 4, 1, 2, 5, 6]
"""The order of retrieval. The ranker turns it round to 6 … 1; the selector then picks the worst two."""


@dataclass(frozen=True)
class Bench:
    """A healthy pipeline to break, and the recorder that watches it."""

    pipeline: RecommendationPipeline
    counts: Counts

    def ask(self, **fields: object) -> Recommendation:
        return run(self.pipeline.run(query_of(**{"count": 2, "explain": True, **fields})))

    def ask_and_time(self, **fields: object) -> tuple[Recommendation | Unavailable, float]:
        """The answer or the refusal, and when it came, in (virtual) seconds."""

        async def timed() -> tuple[Recommendation | Unavailable, float]:
            try:
                answer: Recommendation | Unavailable = await self.pipeline.run(query_of(**fields))
            except Unavailable as refusal:
                answer = refusal
            return answer, asyncio.get_running_loop().time()

        return run(timed())

    def broken(self, **stages: object) -> "Bench":
        return Bench(replace(self.pipeline, **stages), self.counts)  # type: ignore[arg-type]  # parameters of a test are wider


@pytest.fixture
def bench() -> Bench:
    counts = Counts()
    pipeline = RecommendationPipeline(
        query_hydrators=(HISTORY,),
        sources=(TOWER, EASE, POPULAR),
        blender=BestScoreBlender("blender"),
        hydrators=(ITEMS,),
        scorer=RISING,
        selector=LastSelector("selector"),
        explainer=ScoreExplainer("explainer"),
        budgets=BUDGETS,
        recorder=counts,
    )
    return Bench(pipeline, counts)


def shown(answer: Recommendation) -> list[int]:
    return answer.batch.item_index.tolist()


def test_healthy(bench: Bench) -> None:
    answer = bench.ask()
    assert shown(answer) == [1, 2]
    assert (answer.tier, answer.degraded, len(answer.explanations)) == ("personalized", (), 2)
    assert len(answer.query.history) == 1
    assert bench.counts.losses == []


# Online features → the schema's defaults.


@FAULTS
def test_without_features_the_query_keeps_its_defaults(bench: Bench, fault: Fault, reason: str) -> None:
    answer = bench.broken(query_hydrators=(replace(HISTORY, fault=fault),)).ask()
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


def brings(batch: CandidateBatch) -> FixedSource:
    return replace(TOWER, batch=batch)


@pytest.mark.parametrize(
    "outlaw",
    [
        brings(batch_of([1, 1])),
        brings(replace(batch_of([1, 2]), retrieval_score=np.ones(1, np.float32))),
        brings(batch_of([1, 2]).with_score(np.ones(3, np.float32))),
        brings(None),  # type: ignore[arg-type]  # parameters of a test are wider
    ],
    ids=["an item twice", "fewer scores", "more scores", "no batch"],
)
def test_a_source_that_breaks_its_law_is_lost(bench: Bench, outlaw: FixedSource) -> None:
    answer = bench.broken(sources=(outlaw, EASE, POPULAR)).ask(count=10)
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


def test_a_slow_source_is_dropped_at_its_own_budget(bench: Bench) -> None:
    late = takes(BUDGETS.source / 1e3 + 0.001)
    answer = bench.broken(sources=(replace(TOWER, fault=late), EASE, POPULAR)).ask(deadline=10.0)
    assert answer.degraded == ("source:tower",)
    assert bench.counts.losses == [("source:tower", "TimeoutError")]


def test_a_source_within_its_budget_is_waited_for(bench: Bench) -> None:
    in_time = takes(BUDGETS.source / 1e3 - 0.001)
    answer = bench.broken(sources=(replace(TOWER, fault=in_time), EASE, POPULAR)).ask()
    assert answer.degraded == ()


def test_sources_wait_side_by_side(bench: Bench) -> None:
    slow = takes(BUDGETS.source / 1e3 - 0.001)
    sources = tuple(replace(source, fault=slow) for source in (TOWER, EASE, POPULAR))
    answer = bench.broken(sources=sources).ask(deadline=BUDGETS.source / 1e3)
    assert answer.degraded == ()


class NoBlender(Named):
    def blend(self, query: Query, batches: Sequence[CandidateBatch | None]) -> CandidateBatch:
        raise ZeroDivisionError


class CrookedBlender(Named):
    def blend(self, query: Query, batches: Sequence[CandidateBatch | None]) -> CandidateBatch:
        return replace(batch_of([1, 2]), source=np.zeros(1, np.uint32))


@pytest.mark.parametrize("blender", [NoBlender("blender"), CrookedBlender("blender")])
def test_without_a_blend_the_first_source_that_brought_anything_answers(
    bench: Bench, blender: NoBlender | CrookedBlender
) -> None:
    answer = bench.broken(sources=(FixedSource("none"), EASE, POPULAR), blender=blender).ask()
    assert set(shown(answer)) == {3, 4}
    assert answer.degraded == ("blend",)


# Ranker → retrieval order.


class ForgetfulHydrator(CatalogueHydrator):
    async def hydrate(self, query: Query, batch: CandidateBatch) -> CandidateBatch:
        return batch.with_features(np.zeros((len(batch) - 1, 2), np.float32))


class ShufflingHydrator(CatalogueHydrator):
    async def hydrate(self, query: Query, batch: CandidateBatch) -> CandidateBatch:
        return batch.take(np.arange(len(batch))[::-1])


class UnscoringScorer(ItemScorer):
    async def score(self, query: Query, batch: CandidateBatch) -> CandidateBatch:
        return batch


class ShortScorer(ItemScorer):
    async def score(self, query: Query, batch: CandidateBatch) -> CandidateBatch:
        return batch.with_score(self.scores[: len(batch) - 1])


class SquareScorer(ItemScorer):
    async def score(self, query: Query, batch: CandidateBatch) -> CandidateBatch:
        return batch.with_score(np.zeros((len(batch), 1), np.float32))


class ShufflingScorer(ItemScorer):
    async def score(self, query: Query, batch: CandidateBatch) -> CandidateBatch:
        return batch.with_score(self.scores[batch.item_index]).take(np.arange(len(batch))[::-1])


def scores(*values: float) -> ItemScorer:
    return replace(RISING, scores=np.array(values, np.float32))


@pytest.mark.parametrize(
    ("stages", "reason"),
    [
        ({"scorer": replace(RISING, fault=fails)}, "ConnectionError"),
        ({"scorer": replace(RISING, fault=hangs)}, "TimeoutError"),
        ({"hydrators": (replace(ITEMS, fault=fails),)}, "ConnectionError"),
        ({"hydrators": (replace(ITEMS, fault=hangs),)}, "TimeoutError"),
        ({"hydrators": (ForgetfulHydrator("items"),)}, "InvariantViolation"),
        ({"hydrators": (ShufflingHydrator("items"),)}, "InvariantViolation"),
        ({"scorer": UnscoringScorer("ranker")}, "InvariantViolation"),
        ({"scorer": ShortScorer("ranker", scores=RISING.scores)}, "InvariantViolation"),
        ({"scorer": SquareScorer("ranker")}, "InvariantViolation"),
        ({"scorer": ShufflingScorer("ranker", scores=RISING.scores)}, "InvariantViolation"),
        ({"scorer": scores(*[np.nan] * N)}, "InvariantViolation"),
    ],
    ids=[
        "scorer fails", "scorer hangs", "hydrator fails", "hydrator hangs", "features of fewer rows",
        "hydrator shuffles", "no score", "fewer scores", "scores of two dimensions", "scorer shuffles",
        "all NaN",
    ],
)  # fmt: skip
def test_without_ranker_retrieval_order(bench: Bench, stages: dict[str, object], reason: str) -> None:
    answer = bench.broken(selector=None, **stages).ask(count=10)
    assert shown(answer) == RETRIEVED
    assert (answer.degraded, answer.explanations) == (("ranker",), ())
    assert bench.counts.losses == [("ranker", reason)]


@pytest.mark.parametrize("nothing", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("scale", [1.0, 1e30, -1e30], ids=str)
def test_scores_that_are_not_finite_sink(bench: Bench, nothing: float, scale: float) -> None:
    values = [0, 1 * scale, nothing, 3 * scale, nothing, 5 * scale, 6 * scale, 0, 0, 0]
    answer = bench.broken(selector=None, scorer=scores(*values)).ask(count=10)
    best_first = sorted([1, 3, 5, 6], key=lambda item: -values[item])
    assert shown(answer) == [*best_first, 4, 2]  # the sunk ones in retrieval order
    assert answer.batch.score is not None
    assert np.isfinite(answer.batch.score).all()
    assert (np.diff(answer.batch.score) <= 0).all()
    assert answer.degraded == ()


# Diversity → the ranked top k.


@dataclass(frozen=True)
class FixedSelector(LastSelector):
    chosen: Any = None

    async def select(self, query: Query, batch: CandidateBatch) -> NDArray[np.intp]:
        return self.chosen  # type: ignore[no-any-return]  # a fault may be anything


def chooses(*rows: Any) -> FixedSelector:
    return FixedSelector("selector", chosen=np.array(rows))


@pytest.mark.parametrize(
    ("selector", "reason"),
    [
        (LastSelector("selector", fault=fails), "ConnectionError"),
        (LastSelector("selector", fault=hangs), "TimeoutError"),
        (chooses(0), "InvariantViolation"),
        (chooses(0, 1, 2), "InvariantViolation"),
        (chooses(1, 1), "InvariantViolation"),
        (chooses(0, 6), "InvariantViolation"),
        (chooses(0, -1), "InvariantViolation"),
        (chooses(0.0, 1.0), "InvariantViolation"),
        (chooses(True, False), "InvariantViolation"),
        (chooses([0], [1]), "InvariantViolation"),
        (FixedSelector("selector"), "InvariantViolation"),
    ],
    ids=[
        "fails", "hangs", "too few", "too many", "twice", "beyond the end", "negative", "floats", "a mask",
        "two dimensions", "nothing",
    ],
)  # fmt: skip
def test_without_diversity_the_ranked_top(bench: Bench, selector: LastSelector, reason: str) -> None:
    answer = bench.broken(selector=selector).ask()
    assert shown(answer) == [6, 5]
    assert (answer.degraded, len(answer.explanations)) == (("diversity",), 2)
    assert bench.counts.losses == [("diversity", reason)]


# Explainer → no reasons.


class SilentExplainer(ScoreExplainer):
    async def explain(self, query: Query, batch: CandidateBatch) -> tuple[Explanation, ...]:
        return ()


@pytest.mark.parametrize(
    ("explainer", "reason"),
    [
        (ScoreExplainer("explainer", fault=fails), "ConnectionError"),
        (ScoreExplainer("explainer", fault=hangs), "TimeoutError"),
        (SilentExplainer("explainer"), "InvariantViolation"),
    ],
)
def test_without_explainer_no_reasons(bench: Bench, explainer: ScoreExplainer, reason: str) -> None:
    answer = bench.broken(explainer=explainer).ask()
    assert (shown(answer), answer.explanations, answer.degraded) == ([1, 2], (), ("explainer",))
    assert bench.counts.losses == [("explainer", reason)]


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


@pytest.mark.parametrize(
    "stages",
    [
        {"query_hydrators": (replace(HISTORY, fault=hangs),)},
        {"sources": (replace(TOWER, fault=hangs), EASE)},
        {"sources": (replace(TOWER, fault=hangs),)},
        {"scorer": replace(RISING, fault=hangs)},
        {"selector": LastSelector("selector", fault=hangs)},
        {"explainer": ScoreExplainer("explainer", fault=hangs)},
    ],
    ids=["features", "one source", "every source", "scorer", "selector", "explainer"],
)
def test_whatever_hangs_the_deadline_is_kept(bench: Bench, stages: dict[str, object]) -> None:
    _, at = bench.broken(**stages).ask_and_time(deadline=0.02, explain=True)
    assert at == pytest.approx(0.02)  # and not at the stage's budget, which is longer


def test_lost_stages_add_up(bench: Bench) -> None:
    answer = bench.broken(
        query_hydrators=(replace(HISTORY, fault=hangs),),
        sources=(replace(TOWER, fault=fails), EASE, POPULAR),
        scorer=replace(RISING, fault=hangs),
        selector=LastSelector("selector", fault=fails),
    ).ask()
    assert shown(answer) == [3, 4]
    assert answer.degraded == ("features", "source:tower", "ranker", "diversity")


# Filters fail closed: what could not be checked is not shown.


class BrokenFilter(Named):
    def keep(self, query: Query, batch: CandidateBatch) -> Mask:
        raise IndexError("injected")


def test_without_a_filter_it_is_unavailable(bench: Bench) -> None:
    with pytest.raises(Unavailable, match="filter seen failed"):
        bench.broken(filters=(BrokenFilter("seen"),)).ask()
    assert bench.counts.losses == [("filter:seen", "IndexError")]


async def refuses() -> None:
    raise InvalidFilter("year", "injected")


def test_a_wrong_filter_is_the_clients_mistake_and_stops_the_other_sources(bench: Bench) -> None:
    sources = replace(TOWER, fault=refuses), replace(EASE, fault=hangs), replace(POPULAR, fault=refuses)
    with pytest.raises(InvalidFilter, match="year"):
        bench.broken(sources=sources).ask()
    assert bench.counts.losses == []


# Cancellation: the client has gone.


@pytest.mark.parametrize(
    "stages",
    [
        {"query_hydrators": (replace(HISTORY, fault=hangs),)},
        {"sources": (replace(TOWER, fault=hangs), replace(EASE, fault=hangs), POPULAR)},
        {"scorer": replace(RISING, fault=hangs)},
        {"selector": LastSelector("selector", fault=hangs)},
        {"explainer": ScoreExplainer("explainer", fault=hangs)},
    ],
    ids=lambda stages: next(iter(stages)),
)
def test_a_cancelled_request_leaves_no_task_behind(bench: Bench, stages: dict[str, object]) -> None:
    pipeline = bench.broken(**stages).pipeline

    async def cancelled() -> None:
        request = asyncio.create_task(pipeline.run(query_of(explain=True)))
        await asyncio.sleep(0.01)
        assert not request.done()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    run(cancelled())  # which checks for tasks left behind
    assert (bench.counts.answers, bench.counts.losses) == (0, [])


# Side effects: nobody waits for them.


@FAULTS
def test_a_lost_side_effect_is_counted_and_spares_the_next(bench: Bench, fault: Fault, reason: str) -> None:
    last = Recall("last")
    broken = bench.broken(side_effects=(Recall("first", fault=fault), last))
    answer = broken.ask()
    run(broken.pipeline.record(answer))
    assert last.recorded == [answer]
    assert bench.counts.losses == [("first", reason)]


def test_a_side_effect_may_take_its_time(bench: Bench) -> None:
    recall = Recall("recall", fault=takes(SIDE_EFFECT_TIMEOUT_S * 0.9))
    broken = bench.broken(side_effects=(recall,))
    run(broken.pipeline.record(broken.ask()))
    assert len(recall.recorded) == 1
