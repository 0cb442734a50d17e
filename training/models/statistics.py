"""What is known of every item at the start of any day: popularity, mean value, age, idleness.

Only whole days before the day asked for count, so a training list of the past and a request of today see the
same kind of number, and neither sees its own future. Does not belong here: statistics that move with single
events (`features.statistics`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Self

import numpy as np

from training.bundle import Component
from training.models.arrays import Float32, Float64, Int32, Int64

DAY_S = 86_400

WEEK, MONTH = 7.0, 30.0
"""Days after which an event counts half: a fashion, and a season."""

PRIOR_EVENTS = 5.0
"""Events of the average item that every item's mean value starts with; enough that one 5.0 proves little."""

UNSEEN_IDLE_DAYS = 60
"""An item nobody has met counts as last met this many days before the log begins: idler than any other, yet
on the same scale."""

HEAD = 2_000
"""Most popular items kept in order: what a user may be shown is nearly always among them, so that
a request does not look at every item."""

LONG_LOG = 1_000_000
"""Rows from which on a day's table is made from an earlier day's: all rows take too long to repeat."""

CACHE_BYTES = 64 << 20
"""Tables kept, least recently used first out. One day of 1,700 items is 40 kB; of a million, 24 MB."""


@dataclass(frozen=True, slots=True)
class StatisticsTable:
    """Every item at the start of one day, float32 [n] each.

    Attributes:
        popularity_week, popularity_month: log(1 + events halved for every week, or month, that has passed).
        popularity_all: log(1 + events).
        mean_value: mean of the events' values, shrunk towards the mean of all events (0 before the first).
        age: log(1 + days since the first event's day); 0 where there was none.
        idle: log(1 + days since the latest event's day).
        popular: int32, at most `HEAD` items of the highest `popularity_month`, best first, ties by lower
            index.
    """

    popularity_week: Float32
    popularity_month: Float32
    popularity_all: Float32
    mean_value: Float32
    age: Float32
    idle: Float32
    popular: Int32


@dataclass(frozen=True, slots=True)
class _Sums:
    """Of every item's rows before `today`, [n] each: float64, and int32 the first and last day of those with
    rows."""

    today: int
    events: Float64
    values: Float64
    week: Float64
    month: Float64
    first: Int32
    last: Int32

    @staticmethod
    def begin(n: int, today: int) -> _Sums:
        """Before any row."""
        nothing, day = np.zeros(n), np.zeros(n, np.int32)
        return _Sums(today, nothing, nothing, nothing, nothing, day, day)


class ItemStatistics:
    """A log with one row per item and day: what the statistics need of the past, and not who did what."""

    def __init__(
        self, day: Int32, item: Int32, count: Float32, value_sum: Float32, n_items: int, end: float
    ) -> None:
        """Args:
        day: int32 [m], days since 1970 UTC, ascending.
        item: int32 [m].
        count, value_sum: float32 [m], that item's events on that day, and the sum of their values.
        end: unix seconds of the latest event; 0 where there is none.
        """
        self._day, self._item, self._count, self._value_sum = day, item, count, value_sum
        self.n_items, self.end = n_items, end
        self._running: _Sums | None = None
        self._lock = Lock()
        self._last_day = int(end // DAY_S) + 1
        self._table = lru_cache(max(2, CACHE_BYTES // (24 * max(n_items, 1))))(self._compute)

    @classmethod
    def from_events(cls, item_index: Int32, value: Float32, timestamp: np.ndarray, n_items: int) -> Self:
        """Events in any order, [e] each; `timestamp` in unix seconds."""
        day = np.floor_divide(timestamp, DAY_S).astype(np.int64)
        cells, cell = np.unique(day * n_items + item_index, return_inverse=True)
        return cls(
            (cells // max(n_items, 1)).astype(np.int32),
            (cells % max(n_items, 1)).astype(np.int32),
            np.bincount(cell, minlength=len(cells)).astype(np.float32),
            np.bincount(cell, value, minlength=len(cells)).astype(np.float32),
            n_items,
            float(timestamp.max(initial=0)),
        )

    def at(self, now: float) -> StatisticsTable:
        """As of the start of `now`'s day (unix seconds, UTC).

        After the day that follows the log's end nothing changes any more: what happened since is unknown,
        and counting it as silence would make every item look forgotten.
        """
        return self._table(min(int(now // DAY_S), self._last_day))

    def of_days(self, now: Float64) -> Iterator[tuple[Int64, StatisticsTable]]:
        """Users by the day of their moment: which they are, int64, and the table of that day.

        Args:
            now: float64 [b], unix seconds.
        """
        day = np.minimum(now // DAY_S, self._last_day).astype(np.int64)
        for one in np.unique(day).tolist():
            yield np.flatnonzero(day == one), self._table(one)

    def _compute(self, today: int) -> StatisticsTable:
        """O(m): 2 ms for 100,000 rows; of a long log O(n) and its rows since the day asked for last."""
        with self._lock:
            begun = self._running if len(self._day) > LONG_LOG else None
            if begun is None or begun.today > today:
                begun = _Sums.begin(self.n_items, min(today, int(self._day[0]) if len(self._day) else today))
            sums = self._advanced(begun, today)
            if len(self._day) > LONG_LOG:
                self._running = sums
        prior = sums.values.sum() / max(sums.events.sum(), 1.0)
        begin = int(self._day[0]) if len(self._day) else today
        unseen = sums.events == 0
        first = np.where(unseen, today, sums.first)
        last = np.where(unseen, min(begin, today) - UNSEEN_IDLE_DAYS, sums.last)
        return _frozen(
            popularity_week=np.log1p(sums.week),
            popularity_month=np.log1p(sums.month),
            popularity_all=np.log1p(sums.events),
            mean_value=(sums.values + PRIOR_EVENTS * prior) / (sums.events + PRIOR_EVENTS),
            age=np.log1p(today - first),
            idle=np.log1p(today - last),
        )

    def _advanced(self, sums: _Sums, today: int) -> _Sums:
        """With the rows of the days from `sums.today` on, up to `today`, which is not before."""
        new = slice(*np.searchsorted(self._day, (sums.today, today)).tolist())
        day, item, count = self._day[new], self._item[new], self._count[new]
        elapsed = (today - 1 - day).astype(np.float32)
        passed = float(today - sums.today)
        first, last = sums.first.copy(), sums.last.copy()
        fresh = sums.events[item] == 0
        first[item[fresh][::-1]] = day[fresh][
            ::-1
        ]  # of several assignments the last, the earliest day, stays
        last[item] = day
        return _Sums(
            today,
            sums.events + self._sum(item, count),
            sums.values + self._sum(item, self._value_sum[new]),
            sums.week * 2.0 ** (-passed / WEEK) + self._sum(item, count * np.exp2(-elapsed / WEEK)),
            sums.month * 2.0 ** (-passed / MONTH) + self._sum(item, count * np.exp2(-elapsed / MONTH)),
            first,
            last,
        )

    def _sum(self, item: Int32, weight: Float32) -> Float64:
        """float64 [n]."""
        return np.bincount(item, weight, minlength=self.n_items).astype(np.float64, copy=False)

    def to_component(self) -> Component:
        arrays = {"day": self._day, "item": self._item, "count": self._count, "value_sum": self._value_sum}
        return Component({"n_items": self.n_items, "end": self.end}, arrays)

    @classmethod
    def from_component(cls, component: Component) -> Self:
        log = component.arrays
        return cls(log["day"], log["item"], log["count"], log["value_sum"], **component.settings)


def _frozen(**columns: np.ndarray) -> StatisticsTable:
    """Tables are shared between callers: none may write."""
    narrow = {name: column.astype(np.float32) for name, column in columns.items()}
    popular = _head(narrow["popularity_month"])
    for column in (*narrow.values(), popular):
        column.flags.writeable = False
    return StatisticsTable(**narrow, popular=popular)


def _head(popularity: Float32) -> Int32:
    """The `HEAD` highest, best first, ties by lower index."""
    n = len(popularity)
    floor = np.partition(popularity, n - HEAD)[n - HEAD] if n > HEAD else -np.inf
    reached = np.flatnonzero(popularity >= floor)
    return reached[np.argsort(-popularity[reached], kind="stable")][:HEAD].astype(np.int32)
