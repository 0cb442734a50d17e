"""The program keeps its clock, whatever its stages do: error, hang, computation that blocks, broken law."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from serving.batch import Candidates, Queries
from serving.observe import tracing
from serving.program import Program
from serving.state import State
from serving.steps import Blend, Keep, Rank, Retrieve, Select, Step
from serving.types import Mask, Query
from serving.worker_threads import HUNG_S, Hanging, WorkerThreads
from training.models.ragged import Ragged, splits


def queries(*counts: int) -> Queries:
    asked = [Query(f"r{n}", f"u{n}", 0.0, 0.0, count) for n, count in enumerate(counts)]
    return Queries.of(asked, 0, [query.exclude for query in asked])


@dataclass
class Fixed:
    """Brings items 0, 1, … to request 0, one more to each later one."""

    name: str
    items: int = 5
    fault: Callable[[Queries], object] = lambda _: None
    personal: bool = True

    @staticmethod
    def takes(asked: Queries) -> Mask:
        return np.ones(len(asked), np.bool_)

    def retrieve(self, asked: Queries) -> Candidates:
        self.fault(asked)
        found = Ragged.of([np.arange(self.items + n, dtype=np.int32) for n in range(len(asked))], np.int32)
        return Candidates.of(found, np.linspace(1, 0, len(found.values), dtype=np.float32))


class FirstOf:
    name = "first of"

    def blend(self, asked: Queries, brought: Sequence[Candidates | None]) -> Candidates:
        [first, *_] = [found for found in brought if found is not None]
        return first


@dataclass
class Odd:
    """Odd items are worth more; `fault` first."""

    fault: Callable[[Queries], object] = lambda _: None
    name: str = "odd"
    requires: tuple[str, ...] = ()

    @staticmethod
    def takes(asked: Queries) -> Mask:
        return np.ones(len(asked), np.bool_)

    def score(self, asked: Queries, candidates: Candidates) -> np.ndarray:
        self.fault(asked)
        return (candidates.item_index % 2).astype(np.float32)


def steps(*, source: Fixed | None = None, scorer: Odd | None = None, budget_s: float = 60.0) -> list[Step]:
    sources = (source or Fixed("a"), Fixed("b", 3))
    return [
        *(Retrieve(each, bit, budget_s) for bit, each in enumerate(sources)),
        Blend(FirstOf(), budget_s),
        Keep((), budget_s),
        Rank((), scorer or Odd(), budget_s),
        Select(None, budget_s),
    ]


def begin(asked: Queries, within_s: float = 60.0) -> State:
    return State.begin(asked, np.full(len(asked), time.monotonic() + within_s), 2)


@pytest.fixture
def pool() -> Iterator[WorkerThreads]:
    with closing(WorkerThreads()) as made:
        yield made


def shown(state: State) -> list[list[int]]:
    return [items.tolist() for items in state.candidates.items]


def test_a_batch_equals_its_singles() -> None:
    together = Program(steps()).run(begin(queries(2, 3, 9)))
    assert shown(together)[0] == [1, 3]
    for row, count in enumerate((2, 3, 9)):
        alone = Program(steps(source=replace(Fixed("a"), items=5 + row))).run(begin(queries(count)))
        assert shown(alone) == [shown(together)[row]]
    assert together.losses == ()
    assert [timing.stage for timing in together.timings][:2] == ["source:a", "source:b"]


@pytest.mark.parametrize("traced", [(), (1,), (1, 2)])
def test_what_a_batch_calls_is_below_its_first_traced_request(traced: tuple[int, ...]) -> None:
    below: list[str | None] = []
    source = Fixed("a", fault=lambda _: below.append(tracing.of_batch()))
    asked = [
        Query(f"r{n}", f"u{n}", 0.0, 0.0, 1, traceparent=f"00-{n}" if n in traced else None) for n in range(3)
    ]
    Program(steps(source=source)).run(begin(Queries.of(asked, 0, [query.exclude for query in asked])))
    assert below == ["00-1" if traced else None]
    assert tracing.of_batch() is None


def test_one_bad_request_costs_only_itself() -> None:
    def for_two(asked: Queries) -> None:
        if (asked.count == 2).any():
            raise ZeroDivisionError

    state = Program(steps(scorer=Odd(for_two))).run(begin(queries(3, 2, 3)))
    assert shown(state) == [[1, 3, 0], [0, 1], [1, 3, 5]]
    [loss] = state.losses
    assert (loss.stage, loss.reason, loss.rows.tolist()) == ("ranker", "ZeroDivisionError", [1])


@pytest.mark.parametrize("lost", ["a", "b"])
async def test_a_stage_that_blocks_is_left_behind_at_its_budget(pool: WorkerThreads, lost: str) -> None:
    free = threading.Event()
    blocked = Fixed(lost, fault=lambda _: free.wait(60))
    plan = steps(source=blocked if lost == "a" else None, budget_s=0.2)
    if lost == "b":
        plan[1] = Retrieve(blocked, 1, 0.2)
    state = await Program(plan).watched(begin(queries(2, 3)), pool)
    assert not free.is_set(), "answered while it hangs"
    assert [(loss.stage, loss.reason) for loss in state.losses] == [(f"source:{lost}", "TimeoutError")]
    assert [len(items) for items in shown(state)] == [2, 3]
    free.set()


async def test_a_stage_that_ends_as_it_is_left_behind_costs_no_other_stage(pool: WorkerThreads) -> None:
    """Its thread goes on just when the event loop looks at the clock and finds it too late."""
    free, next_begun, loops_thread = threading.Event(), threading.Event(), threading.get_ident()
    began = time.monotonic()

    def clock() -> float:
        now = time.monotonic()
        if threading.get_ident() == loops_thread and now > began + 0.1:
            free.set()
            next_begun.wait(0.2)
        return now

    slow, other = (
        Fixed("a", fault=lambda _: free.wait(60)),
        Fixed("b", fault=lambda _: next_begun.set()),
    )
    plan = steps(source=slow)
    plan[0], plan[1] = Retrieve(slow, 0, 0.1), Retrieve(other, 1, 60.0)
    state = await Program(plan, clock).watched(begin(queries(2)), pool)
    assert {loss.stage for loss in state.losses} <= {"source:a"}  # it ended, or it was left
    assert int(state.contributed[0]) & 0b10
    assert [len(items) for items in shown(state)] == [2]


async def test_another_batch_is_answered_while_one_hangs(pool: WorkerThreads) -> None:
    free = threading.Event()
    hangs = Program(steps(source=Fixed("a", fault=lambda _: free.wait(60))))
    first = asyncio.create_task(hangs.watched(begin(queries(2)), pool))
    await asyncio.sleep(0.01)
    other = await Program(steps()).watched(begin(queries(3)), pool)
    assert not first.done()
    assert shown(other) == [[1, 3, 0]]
    free.set()
    assert shown(await first) == [[1, 3]]


async def test_what_a_request_has_no_time_for_is_left_out_for_it_alone(pool: WorkerThreads) -> None:
    state = begin(queries(2, 2))
    late = replace(state, deadline=state.deadline - np.array([0.0, 120.0]))
    done = await Program(steps()).watched(late, pool)
    assert shown(done)[0] == [1, 3]
    assert {loss.reason for loss in done.losses} == {"Deadline"}
    assert all(loss.rows.tolist() == [1] for loss in done.losses)


@dataclass
class Wrong:
    """A selector that breaks its law."""

    places: Callable[[Candidates], np.ndarray]
    name: str = "wrong"

    @staticmethod
    def takes(asked: Queries) -> Mask:
        return np.ones(len(asked), np.bool_)

    def select(self, asked: Queries, candidates: Candidates) -> Ragged[np.int64]:
        places = self.places(candidates)
        return Ragged(places, splits(np.minimum(candidates.lengths, asked.count)))


@pytest.mark.parametrize(
    "places",
    [
        lambda candidates: np.zeros(4, np.int64),
        lambda candidates: np.array([0, 1, 2, 3]),
        lambda candidates: np.array([-1, 0, 5, 6]),
    ],
)
def test_a_broken_law_is_a_loss(places: Callable[[Candidates], np.ndarray]) -> None:
    plan = steps()
    plan[-1] = Select(Wrong(places), 60.0)
    state = Program(plan).run(begin(queries(2, 2)))
    assert {(loss.stage, loss.reason) for loss in state.losses} == {("diversity", "InvariantViolation")}
    assert shown(state) == [[1, 3], [1, 3]]


@dataclass
class Broken:
    name: str = "broken"
    asked: list[int] = field(default_factory=list)

    @staticmethod
    def takes(asked: Queries) -> Mask:
        return np.ones(len(asked), np.bool_)

    def keep(self, asked: Queries, candidates: Candidates) -> Mask:
        raise ValueError("cannot be checked")


def test_a_filter_that_fails_shows_nothing() -> None:
    plan = steps()
    plan[3] = Keep((Broken(),), 60.0)
    state = Program(plan).run(begin(queries(2, 2)))
    assert state.refused == ("filter failed",) * 2
    assert shown(state) == [[], []]


async def until(true: Callable[[], bool]) -> None:
    """What threads do that the test has freed."""
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110  # a thread sets no event of the loop's
            await asyncio.sleep(0.01)


async def test_a_stage_that_hangs_every_time_never_takes_all_threads() -> None:
    """It is not begun while half of the threads hang; the others go on, and so does it once it returns."""
    free, begun = threading.Event(), []

    def hang(_: Queries) -> None:
        begun.append(1)
        free.wait(60)

    with closing(WorkerThreads(4)) as workers:
        plan = steps(source=Fixed("a", fault=hang))
        plan[0] = Retrieve(Fixed("a", fault=hang), 0, 0.01)
        while not workers.refuses("source:a"):
            state = await Program(plan).watched(begin(queries(2)), workers)
            assert [loss.reason for loss in state.losses] == ["TimeoutError"]
        assert len(begun) == 2
        refused = await Program(plan).watched(begin(queries(2)), workers)
        assert [(loss.stage, loss.reason) for loss in refused.losses] == [("source:a", "Hanging")]
        assert shown(refused) == shown(state)
        assert len(begun) == 2
        free.set()
        await until(lambda: not workers.refuses("source:a"))
        assert (await Program(steps()).watched(begin(queries(2)), workers)).losses == ()


async def test_a_replica_on_which_a_stage_never_returns_is_not_healthy() -> None:
    free = threading.Event()
    with closing(WorkerThreads()) as workers:
        plan = steps()
        plan[0] = Retrieve(Fixed("a", fault=lambda _: free.wait(60)), 0, 0.01)
        await Program(plan).watched(begin(queries(2)), workers)
        workers.check()
        with pytest.raises(Hanging, match="source:a"):
            workers.check(time.monotonic() + HUNG_S + 1)
        free.set()

        def healthy() -> bool:
            with suppress(Hanging):
                workers.check(time.monotonic() + HUNG_S + 1)
                return True
            return False

        await until(healthy)
