"""Faults of one request of a batch, of requests that are cancelled, and of what runs after an answer: each
costs only itself. Time is virtual."""

import asyncio
from dataclasses import dataclass, replace
from typing import Any

import pytest

from serving.batch import Candidates, Queries
from serving.errors import Unavailable
from serving.pipeline import SIDE_EFFECT_TIMEOUT_S
from serving.types import Float32, Recommendation
from tests.faults.bench import (
    FAULTS,
    HANGING,
    RETRIEVED,
    RISING,
    STAGES,
    Bench,
    gathered,
    shown,
)
from tests.serving.doubles import (
    ItemScorer,
    Recall,
    query_of,
)
from tests.serving.virtual import Fault, hangs, lasts, run

# Cancellation: the client has gone.


@pytest.mark.parametrize("stages", HANGING, ids=STAGES)
def test_a_cancelled_request_leaves_no_task_behind(bench: Bench, stages: dict[str, object]) -> None:
    """And what was computed for it alone ends by its own budgets."""
    pipeline = bench.broken(**stages).pipeline

    async def cancelled() -> None:
        request = asyncio.create_task(pipeline.run(query_of(explain=True)))
        await asyncio.sleep(0.01)
        assert not request.done()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        await asyncio.sleep(5)

    run(cancelled())  # which checks for tasks left behind
    assert bench.counts.answers == 0


# Requests of one batch: the fault of one is nobody else's.


@dataclass(frozen=True)
class Picky(ItemScorer):
    """Fails where a request that wants `count` items is among those it scores."""

    count: int = 0

    def score(self, queries: Queries, candidates: Candidates) -> Float32:
        if (queries.count == self.count).any():
            raise ArithmeticError("injected")
        return super().score(queries, candidates)


def test_a_stage_that_fails_for_a_batch_is_tried_request_by_request(bench: Bench) -> None:
    broken = bench.broken(scorer=Picky("ranker", scores=RISING.scores, count=3), selector=None)
    asked = [query_of(count=count, explain=True) for count in (2, 3, 4)]
    answers = [answer for answer in gathered(broken, *asked) if isinstance(answer, Recommendation)]
    assert [shown(answer) for answer in answers] == [[6, 5], RETRIEVED[:3], [6, 5, 4, 3]]
    assert [answer.shown.score is None for answer in answers] == [False, True, False]
    assert [len(answer.explanations) for answer in answers] == [2, 0, 4]
    assert bench.counts.losses == [("ranker", "ArithmeticError")]


def test_in_a_batch_one_without_time_gets_what_there_was_time_for(bench: Bench) -> None:
    """Both are in one batch, whose ranker takes longer than one of them has."""
    broken = bench.broken(scorer=replace(RISING, fault=lasts(0.1)), selector=None)
    patient, hurried = gathered(broken, query_of(count=2), query_of(count=2, deadline=0.05, explain=True))
    assert isinstance(patient, Recommendation)
    assert isinstance(hurried, Recommendation)
    assert (shown(patient), patient.degraded) == ([6, 5], ())
    assert hurried.degraded == ("explainer",)


@pytest.mark.parametrize("stages", HANGING, ids=STAGES)
def test_a_request_that_comes_while_a_stage_hangs_is_answered_meanwhile(
    bench: Bench, stages: dict[str, object]
) -> None:
    """The stage hangs for the first batch alone."""
    first = [True]

    @dataclass(frozen=True)
    class Once(Fault):
        def compute(self) -> None:
            if first.pop() if first else False:
                hangs.compute()

        async def wait(self) -> None:
            if first.pop() if first else False:
                await hangs.wait()

    def once(stage: Any) -> Any:
        if isinstance(stage, tuple):
            return tuple(map(once, stage))
        return replace(stage, fault=Once()) if stage.fault is hangs else stage

    pipeline = bench.broken(**{name: once(stage) for name, stage in stages.items()}).pipeline
    order: list[str] = []

    async def ask(name: str) -> Recommendation | None:
        try:
            return await pipeline.run(query_of(count=2, explain=True))
        except Unavailable:
            return None
        finally:
            order.append(name)

    async def two() -> tuple[Recommendation | None, Recommendation | None]:
        hanging = asyncio.create_task(ask("hanging"))
        await asyncio.sleep(0.001)
        other = await ask("other")
        return await hanging, other

    hung, other = run(two())
    assert order == ["other", "hanging"]
    assert other is not None
    assert other.degraded == ()
    assert hung is None or len(hung.degraded) == 1


# Side effects: nobody waits for them.


@FAULTS
def test_a_lost_side_effect_is_counted_and_spares_the_next(bench: Bench, fault: Fault, reason: str) -> None:
    if fault == lasts(0.3):
        fault = lasts(SIDE_EFFECT_TIMEOUT_S * 1.1)  # it may take longer than a stage
    last = Recall("last")
    broken = bench.broken(side_effects=(Recall("first", fault=fault), last))
    answer = broken.ask()
    run(broken.pipeline.record(answer))
    assert last.recorded == [answer]
    assert bench.counts.losses == [("first", reason)]


def test_a_side_effect_may_take_its_time(bench: Bench) -> None:
    recall = Recall("recall", fault=lasts(SIDE_EFFECT_TIMEOUT_S * 0.9))
    broken = bench.broken(side_effects=(recall,))
    run(broken.pipeline.record(broken.ask()))
    assert len(recall.recorded) == 1
