from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.models import statistics as module
from training.models.statistics import (
    DAY_S,
    MONTH,
    PRIOR_EVENTS,
    UNSEEN_IDLE_DAYS,
    WEEK,
    ItemStatistics,
    StatisticsTable,
)

N = 6
START = 10_000 * DAY_S
END = START + 40 * DAY_S
Event = tuple[int, float, int]  # item, value, unix seconds

events = st.lists(
    st.tuples(
        st.integers(0, N - 2), st.sampled_from([1.0, 2.5, 5.0]), st.integers(START, START + 40 * DAY_S)
    ),
    max_size=40,
)
"""Item N - 1 is never met."""

moments = st.integers(START - 3 * DAY_S, START + 45 * DAY_S)


def of(log: list[Event]) -> ItemStatistics:
    item, value, time = (np.array([e[i] for e in log]) for i in range(3))
    return ItemStatistics.from_events(item.astype(np.int32), value.astype(np.float32), time, N)


def recounted(log: list[Event], now: float) -> dict[str, list[float]]:
    end = max((t for _, _, t in log), default=0)
    today = min(int(now // DAY_S), end // DAY_S + 1)
    past = [(i, v, t // DAY_S) for i, v, t in log if t // DAY_S < today]
    begin = min([t // DAY_S for _, _, t in log] + [today])
    prior = sum(v for _, v, _ in past) / max(len(past), 1)
    table: dict[str, list[float]] = {
        field.name: [] for field in fields(StatisticsTable) if field.name != "popular"
    }
    for item in range(N):
        own = [(v, d) for i, v, d in past if i == item]
        first = min([d for _, d in own] + [today])
        last = max([d for _, d in own], default=begin - UNSEEN_IDLE_DAYS)
        for name, half_life in (("week", WEEK), ("month", MONTH)):
            faded = sum(0.5 ** ((today - 1 - d) / half_life) for _, d in own)
            table[f"popularity_{name}"].append(np.log1p(faded))
        table["popularity_all"].append(np.log1p(len(own)))
        table["mean_value"].append(
            (sum(v for v, _ in own) + PRIOR_EVENTS * prior) / (len(own) + PRIOR_EVENTS)
        )
        table["age"].append(np.log1p(today - first))
        table["idle"].append(np.log1p(today - last))
    return table


@given(events.filter(bool), st.lists(moments, max_size=8))
def test_a_batch_of_moments_equals_its_singles(log: list[Event], now: list[int]) -> None:
    """Each user once, with the table of their moment's day; a day's users share one table."""
    statistics = of(log)
    tables: dict[int, StatisticsTable] = {}
    for users, table in statistics.of_days(np.array(now, np.float64)):
        assert not any(table is other for other in tables.values())
        tables |= dict.fromkeys(users.tolist(), table)
        assert users.tolist() == sorted(users.tolist())
    assert sorted(tables) == list(range(len(now)))
    assert all(tables[user] is statistics.at(moment) for user, moment in enumerate(now))


def assert_equal(a: StatisticsTable, b: StatisticsTable) -> None:
    for field in fields(StatisticsTable):
        np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name))


@given(events, moments)
def test_equals_a_recount_by_loop(log: list[Event], now: int) -> None:
    table, expected = of(log).at(now), recounted(log, now)
    for name, column in expected.items():
        found = getattr(table, name)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, column, rtol=1e-5, atol=1e-5)


@given(events.filter(bool), st.integers(START, START + 40 * DAY_S), events.filter(bool))
def test_nothing_of_today_or_later_is_seen(log: list[Event], now: int, planted: list[Event]) -> None:
    """Whatever happens from the day of `now` on, the table of `now` stays the same, bit by bit."""
    today = now // DAY_S * DAY_S
    past = [e for e in log if e[2] < today]
    # One event at least today, so that both logs reach the day asked for.
    anchor: list[Event] = [(0, 5.0, today)]
    future = [(i, v, today + (t - START)) for i, v, t in planted]
    if past:
        assert_equal(of(past + anchor).at(now), of(past + anchor + future).at(now))


@given(events.filter(bool), st.integers(1, 1000))
def test_stands_still_after_the_log_ends(log: list[Event], days: int) -> None:
    statistics = of(log)
    tomorrow = (statistics.end // DAY_S + 1) * DAY_S
    assert statistics.at(tomorrow) is statistics.at(tomorrow + days * DAY_S)


def test_order_of_events_does_not_matter_and_tables_cannot_be_written() -> None:
    log: list[Event] = [(0, 1.0, START), (1, 5.0, START + DAY_S), (0, 2.5, START + 3 * DAY_S)]
    now = START + 9 * DAY_S
    assert_equal(of(log).at(now), of(log[::-1]).at(now))
    with pytest.raises(ValueError, match="read-only"):
        of(log).at(now).age[0] = 1


def test_equal_after_a_round_trip() -> None:
    statistics = of([(0, 1.0, START), (1, 5.0, START + DAY_S)])
    assert_equal(
        ItemStatistics.from_component(statistics.to_component()).at(START + DAY_S),
        statistics.at(START + DAY_S),
    )


@given(events, st.lists(moments, min_size=1, max_size=6))
def test_a_long_log_says_the_same_in_whatever_order_days_are_asked_for(
    log: list[Event], asked: list[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LONG_LOG", 0)
        long = of(log)
        for now in asked:
            found = long.at(now)
            for name, column in recounted(log, now).items():
                np.testing.assert_allclose(getattr(found, name), column, rtol=1e-5, atol=1e-5)


@given(events, moments, st.integers(1, N + 2))
def test_the_most_popular_are_the_head_of_a_stable_sort(log: list[Event], now: int, head: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "HEAD", head)
        table = of(log).at(now)
    expected = np.argsort(-table.popularity_month, kind="stable")[:head]
    np.testing.assert_array_equal(table.popular, expected)
