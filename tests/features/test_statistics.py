"""The vectorised statistics against folding event by event, and against plain definitions."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.statistics import HALF_LIFE_S, State, Timeline, advance, decayed

ENTITIES = 4
EVENTS = st.lists(
    st.tuples(
        st.integers(0, ENTITIES - 1),
        st.floats(-1e4, 1e4, width=32),
        st.one_of(st.integers(0, 5), st.integers(0, 4_000_000_000)),
    ),
    max_size=40,
)


def timeline(events: list[tuple[int, float, int]]) -> Timeline:
    entity, value, time = (list(column) for column in zip(*events, strict=True)) if events else ([], [], [])
    return Timeline.of(np.array(entity, np.intp), np.array(value, float), np.array(time, np.int64), ENTITIES)


def fold(events: list[tuple[int, float, int]], entity: int) -> State:
    """The entity's state, one `advance` an event, in the order of (time, file)."""
    state = State.empty(1)
    for _, value, time in sorted((e for e in events if e[0] == entity), key=lambda e: e[2]):
        state = advance(state, value, time)
    return state


def assert_equal(actual: State, expected: State) -> None:
    for field in fields(State):
        np.testing.assert_allclose(
            getattr(actual, field.name), getattr(expected, field.name), rtol=1e-12, err_msg=field.name
        )


@given(EVENTS)
def test_latest_state_equals_folding_event_by_event(events: list[tuple[int, float, int]]) -> None:
    latest = timeline(events).latest()
    for entity in range(ENTITIES):
        assert_equal(latest.take(np.array([entity]), np.array([True])), fold(events, entity))


@given(EVENTS)
def test_state_before_each_event_is_that_of_the_events_before_it(
    events: list[tuple[int, float, int]],
) -> None:
    line = timeline(events)
    code = np.array([entity for entity, _, _ in events], np.intp)
    before = line.at(code, line.rank)
    order = sorted(range(len(events)), key=lambda row: (events[row][2], row))
    for row, (entity, _, _) in enumerate(events):
        earlier = [events[other] for other in order[: order.index(row)]]
        assert_equal(before.take(np.array([row]), np.array([True])), fold(earlier, entity))


@given(EVENTS, st.one_of(st.integers(-1, 6), st.floats(-1, 5e9)))
def test_state_as_of_a_time_knows_only_strictly_earlier_events(
    events: list[tuple[int, float, int]], time: float
) -> None:
    line, entities = timeline(events), np.arange(ENTITIES)
    seen = line.before(entities, time)
    state = line.at(entities, seen)
    for entity in range(ENTITIES):
        earlier = [event for event in events if event[2] < time]
        assert seen[entity] == sum(event[0] == entity for event in earlier)
        assert_equal(state.take(np.array([entity]), np.array([True])), fold(earlier, entity))


@given(EVENTS, st.integers(0, 5))
def test_history_is_the_newest_of_the_first_seen_oldest_first(
    events: list[tuple[int, float, int]], length: int
) -> None:
    line = timeline(events)
    for entity in range(ENTITIES):
        mine = [row for row, event in enumerate(events) if event[0] == entity]
        mine.sort(key=lambda row: (events[row][2], row))
        for seen in range(len(mine) + 1):
            expected = mine[:seen][max(0, seen - length) :]
            assert line.history(entity, seen, length).tolist() == expected


@given(EVENTS)
def test_activity_is_the_sum_of_decayed_events(events: list[tuple[int, float, int]]) -> None:
    latest = timeline(events).latest()
    for entity in range(ENTITIES):
        times = [time for owner, _, time in events if owner == entity]
        expected = sum(2.0 ** (-(max(times) - time) / HALF_LIFE_S) for time in times)
        assert latest.activity[entity] == pytest.approx(expected, rel=1e-9)


def test_activity_survives_times_that_span_thousands_of_half_lives() -> None:
    milliseconds_taken_for_seconds = [(0, 1.0, 0), (0, 1.0, 1_700_000_000_000)]
    assert timeline(milliseconds_taken_for_seconds).latest().activity[0] == 1.0


def test_decay_halves_and_never_grows() -> None:
    np.testing.assert_allclose(decayed(8.0, 0.0, [0.0, HALF_LIFE_S, 3 * HALF_LIFE_S, -5.0]), [8, 4, 1, 8])


def test_an_event_that_comes_late_counts_as_if_it_came_now() -> None:
    state = advance(advance(State.empty(1), 2.0, 1000.0), 4.0, 10.0)
    assert (state.count[0], state.total[0], state.activity[0]) == (2, 6, 2)
    assert (state.first[0], state.last[0]) == (10, 1000)
