"""A batch's way through a pipeline: what becomes of some requests is put back where they were, and the others
stay as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.batch import Candidates
from serving.errors import Deadline
from serving.state import State, Timing
from serving.types import Explanation
from tests.serving.doubles import batch_of, queries_of, query_of

lists = st.lists(st.integers(0, 30), unique=True, max_size=4)


def begin(b: int) -> State:
    """Request i wants i + 1 items until second i."""
    asked = queries_of(*(query_of(count=n + 1) for n in range(b)))
    return State.begin(asked, np.arange(b, dtype=np.float64), 2)


def after(state: State, source: int, brought: list[list[int]], name: str) -> State:
    """As a step leaves it: with candidates of a source and of a blend, explanations and refusals."""
    found = batch_of(*brought).with_source(source)
    has = np.array([bool(row) for row in brought])
    sources = (*state.brought[:source], found, *state.brought[source + 1 :])
    return replace(
        state,
        brought=sources,
        contributed=state.contributed | (has.astype(np.uint32) << np.uint32(source)),
        candidates=found,
        explanations=tuple((Explanation(name, None, ()),) for _ in brought),
        refused=tuple(None if row else name for row in brought),
    )


def seen(state: State, row: int) -> tuple[object, ...]:
    """All there is of one request."""
    brought = [None if each is None else each.items[row].tolist() for each in state.brought]
    candidates: Candidates = state.candidates
    return (
        int(state.queries.count[row]),
        float(state.deadline[row]),
        [found or [] for found in brought],  # a source that was lost for this one is one that brought nothing
        int(state.contributed[row]),
        candidates.items[row].tolist(),
        state.explanations[row],
        state.refused[row],
    )


@st.composite
def states(draw: st.DrawFn) -> State:
    b = draw(st.integers(1, 5))
    state = begin(b)
    if draw(st.booleans()):
        state = after(state, 0, draw(st.lists(lists, min_size=b, max_size=b)), "first")
    return state


@given(states(), st.data())
def test_take_is_those_requests_without_what_happened_so_far(state: State, data: st.DataObject) -> None:
    state = state.lose("ranker", ValueError(), np.array([0]))
    rows = data.draw(st.lists(st.integers(0, len(state) - 1), unique=True))
    taken = state.take(np.array(rows, np.int64))
    assert [seen(taken, place) for place in range(len(rows))] == [seen(state, row) for row in rows]
    assert (taken.losses, taken.timings) == ((), ())


@given(states(), st.data())
def test_put_changes_those_requests_and_no_other(state: State, data: st.DataObject) -> None:
    """Parts of any of the requests; what was lost and timed stays."""
    state = state.lose("ranker", ValueError(), np.array([0]))
    part_of = data.draw(st.lists(st.integers(0, 2), min_size=len(state), max_size=len(state)))
    parts, expected = [], [seen(state, row) for row in range(len(state))]
    for number in (1, 2):
        rows = [row for row, part in enumerate(part_of) if part == number]
        if not rows:
            continue
        brought = data.draw(st.lists(lists, min_size=len(rows), max_size=len(rows)))
        done = after(state.take(np.array(rows, np.int64)), 1, brought, f"part {number}")
        parts.append((np.array(rows, np.int64), done))
        for place, row in enumerate(rows):
            expected[row] = seen(done, place)
    found = state.put(parts)
    assert [seen(found, row) for row in range(len(state))] == expected
    assert [loss.stage for loss in found.losses] == ["ranker"]


@given(states())
def test_putting_back_what_was_taken_changes_nothing(state: State) -> None:
    for rows in (np.arange(len(state)), np.array([0]), np.arange(len(state))[1:]):
        found = state.put([(rows, state.take(rows))])
        assert [seen(found, row) for row in range(len(state))] == [
            seen(state, row) for row in range(len(state))
        ]


def test_a_request_is_refused_once_and_is_then_no_longer_open() -> None:
    state = begin(3).refuse(np.array([1]), "first").refuse(np.array([1, 2]), "second")
    assert state.refused == (None, "first", "second")
    assert state.open.tolist() == [True, False, False]


def test_losses_and_timings_add_up_and_a_state_never_changes() -> None:
    fresh = begin(2)
    counts = np.zeros(2, np.int64)
    timing = Timing("ranker", 0.5, 0.1, counts, counts, np.array([True, False]))
    state = fresh.lose("ranker", Deadline("the text is not kept"), np.array([1])).took(timing)
    [loss] = state.losses
    assert (loss.stage, loss.reason, loss.rows.tolist()) == ("ranker", "Deadline", [1])
    assert state.timings == (timing,)
    assert (fresh.losses, fresh.timings) == ((), ())
    assert state  # a state is never empty, however many requests it is of
