"""Running statistics of users and items, as of any event or any time. Numpy only.

One state, two ways to it: `Timeline` computes the state after every event of a table at once, `advance`
takes one state one event further. A property test holds them equal, which is what lets a live stream
continue where a batch left off. Turning states into model inputs belongs to `transforms`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import accumulate, chain

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]
Int = NDArray[np.intp]

DAY_S = 86_400.0

HALF_LIFE_S = 30 * DAY_S
"""Seconds after which an event counts half in `activity`. A month follows a season's taste in films; shops
and news want days."""

_CHUNK = 1 << 20
"""Events turned into Python floats at a time by the decay recurrence: 32 MB."""


@dataclass(frozen=True, slots=True)
class State:
    """What is known of `n` entities after the events they have had; all zeros before the first.

    Attributes (float64 [n] each):
        count: events.
        total, squares: sums of the events' values and of their squares.
        activity: events, each halved for every `HALF_LIFE_S` between it and `last`.
        first, last: unix seconds of the first and the latest event.
    """

    count: Float64
    total: Float64
    squares: Float64
    activity: Float64
    first: Float64
    last: Float64

    def __len__(self) -> int:
        return len(self.count)

    @staticmethod
    def empty(n: int) -> State:
        return State(*(np.zeros(n) for _ in fields(State)))

    def take(self, where: Int, known: NDArray[np.bool_]) -> State:
        """Rows at these indices; the empty state where `known` is False (its index is not looked at)."""
        if not len(self):
            return State.empty(len(where))
        index = np.where(known, where, 0)
        return State(*(np.where(known, getattr(self, f.name)[index], 0.0) for f in fields(State)))


def advance(state: State, value: ArrayLike, timestamp: ArrayLike) -> State:
    """The states after one more event each. Values and unix seconds are [n] or scalars.

    An event older than the state's last counts as if it came at that time: activity never grows by waiting.
    """
    value, timestamp = np.asarray(value, np.float64), np.asarray(timestamp, np.float64)
    fresh = state.count == 0
    last = np.where(fresh, timestamp, np.maximum(state.last, timestamp))
    return State(
        state.count + 1,
        state.total + value,
        state.squares + value * value,
        np.where(fresh, 0.0, decayed(state.activity, state.last, last)) + 1,
        np.where(fresh, timestamp, np.minimum(state.first, timestamp)),
        last,
    )


def decayed(activity: ArrayLike, last: ArrayLike, now: ArrayLike) -> Float64:
    """`activity`, true at `last`, as it stands at `now` (unix seconds); never more than it was."""
    elapsed = np.maximum(np.asarray(now, np.float64) - np.asarray(last, np.float64), 0.0)
    return np.asarray(activity, np.float64) * np.exp2(-elapsed / HALF_LIFE_S)


@dataclass(frozen=True)
class Timeline:
    """The events of `m` entities, sorted by entity, then time, then file order, with the state after each.

    Attributes:
        order: intp [n], the event's row in the file.
        start: intp [m + 1]; entity e owns the positions start[e] to start[e + 1].
        time: int64 [n], unix seconds.
        states: the state after each of these events, n of them.
    """

    order: Int
    start: Int
    time: NDArray[np.int64]
    states: State

    @staticmethod
    def of(entity: NDArray[np.integer], value: ArrayLike, timestamp: ArrayLike, entities: int) -> Timeline:
        """From columns in file order: entity codes in [0, entities), values, unix seconds; [n] each."""
        times = np.asarray(timestamp, np.int64)
        order = np.lexsort((times, entity))
        start = np.searchsorted(entity[order], np.arange(entities + 1)).astype(np.intp)
        time, values = times[order], np.asarray(value, np.float64)[order]
        sizes = np.diff(start)
        states = State(
            (np.arange(1, len(order) + 1) - np.repeat(start[:-1], sizes)).astype(np.float64),
            _running_sum(values, start),
            _running_sum(values * values, start),
            _running_activity(time, start),
            np.repeat(time[start[:-1][sizes > 0]], sizes[sizes > 0]).astype(np.float64),
            time.astype(np.float64),
        )
        return Timeline(order, start, time, states)

    @property
    def sizes(self) -> Int:
        """Events of each entity, [m]."""
        return np.diff(self.start)

    @cached_property
    def rank(self) -> Int:
        """For each event in file order, how many of its entity came before it, [n]."""
        rank = np.empty_like(self.order)
        rank[self.order] = np.arange(len(self.order)) - np.repeat(self.start[:-1], self.sizes)
        return rank

    def before(self, entity: Int, time: ArrayLike) -> Int:
        """How many events each entity had strictly before a time (unix seconds, a scalar or [q]); [q]."""
        if not len(self.time):
            return np.zeros(len(entity), np.intp)
        first, last = int(self.time.min()), int(self.time.max())
        span = last - first + 2
        owner = np.repeat(np.arange(len(self.sizes)), self.sizes)
        wanted = np.clip(np.ceil(np.asarray(time, np.float64)).astype(np.int64), first, last + 1) - first
        found = np.searchsorted(owner * span + (self.time - first), entity * span + wanted)
        return np.asarray(found - self.start[entity], np.intp)

    def at(self, entity: Int, seen: Int) -> State:
        """Each entity's state after its first `seen` events; [q] each. `rank` gives the state before each
        event, `before` the state as of a time, `sizes` the latest, `sizes - 1` the one before the last."""
        return self.states.take(self.start[entity] + seen - 1, seen > 0)

    def latest(self) -> State:
        """Every entity's state after all its events, [m]."""
        return self.at(np.arange(len(self.sizes)), self.sizes)

    def history(self, entity: int, seen: int, length: int) -> Int:
        """File rows of the newest `length` of an entity's first `seen` events, oldest first."""
        end = int(self.start[entity]) + seen
        return self.order[max(end - length, int(self.start[entity])) : end]


def _running_sum(values: Float64, start: Int) -> Float64:
    """Sums that begin anew with each entity. One `cumsum` over all would carry its rounding across."""
    out = np.empty_like(values)
    for begin, end in zip(start[:-1].tolist(), start[1:].tolist(), strict=True):
        np.cumsum(values[begin:end], out=out[begin:end])
    return out


def _running_activity(time: NDArray[np.int64], start: Int) -> Float64:
    """a[k] = a[k-1] · 2^(-Δt / half-life) + 1: a plain recurrence, since its closed form overflows when the
    times span more than a thousand half-lives."""
    factor = np.exp2(-np.maximum(np.diff(time, prepend=0), 0) / HALF_LIFE_S)
    factor[start[:-1][start[:-1] < len(time)]] = 0.0
    steps = accumulate(_floats(factor), lambda sum_so_far, keep: sum_so_far * keep + 1.0, initial=0.0)
    next(steps)
    return np.fromiter(steps, np.float64, len(time))


def _floats(values: Float64) -> Iterator[float]:
    chunks = (values[begin : begin + _CHUNK].tolist() for begin in range(0, len(values), _CHUNK))
    return chain.from_iterable(chunks)
