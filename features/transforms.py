"""From states, tables and moments to feature values, and from values to model inputs.

The same functions run over the log (offline), over what Redis holds (online) and inside Feast's on-demand
view. Pure numpy: nothing here knows where a value came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from features.schema import Feature, Kind
from features.statistics import DAY_S, State, decayed
from features.store import Column

Float32 = NDArray[np.float32]

WIDEST = 8.0
"""Standard deviations at which a number's input is cut off: one absurd value must not saturate a network."""

USER_LAST_EVENT, ITEM_LAST_EVENT = "user_last_event_at", "item_last_event_at"


def user_statistics(state: State) -> dict[str, Column]:
    """Users' statistics by feature name, [n] each; NaN where a user without events has none."""
    mean, deviation = _moments(state)
    return {
        "user_events": state.count.astype(np.float32),
        "user_value_mean": mean,
        "user_value_std": deviation,
        "user_activity": state.activity.astype(np.float32),
        "user_tenure_days": ((state.last - state.first) / DAY_S).astype(np.float32),
        USER_LAST_EVENT: _or_nan(state, state.last),
    }


def item_statistics(state: State) -> dict[str, Column]:
    """Items' statistics by feature name, [n] each; popularity as of its last event (see `items_at`)."""
    mean, deviation = _moments(state)
    return {
        "item_events": state.count.astype(np.float32),
        "item_value_mean": mean,
        "item_value_std": deviation,
        "item_popularity": state.activity.astype(np.float32),
        ITEM_LAST_EVENT: _or_nan(state, state.last),
    }


def items_at(columns: Mapping[str, Column], now: ArrayLike) -> dict[str, Column]:
    """Item columns with their popularity decayed to `now` (unix seconds, a scalar or [n]).

    Stored popularity stands still after an item's last event, so items are comparable only at one moment.
    """
    popularity = np.asarray(columns["item_popularity"], np.float64)
    last = np.asarray(columns[ITEM_LAST_EVENT], np.float64)
    at_now = decayed(popularity, np.where(np.isnan(last), np.inf, last), now)
    return {**columns, "item_popularity": at_now.astype(np.float32)}


def context(now: ArrayLike, last_event: ArrayLike) -> dict[str, Float32]:
    """What a moment says, from unix seconds [n] of the request and of the user's last event (NaN: none).

    Hour and weekday, UTC, as points on a circle, so that 23:59 lies beside 00:00.
    """
    moment = np.atleast_1d(np.asarray(now, np.float64))
    day = 2 * np.pi * (moment / DAY_S)
    week = 2 * np.pi * ((moment / DAY_S + 3) / 7)  # 1970-01-01 was a Thursday: Monday is 0
    gap = np.maximum(moment - np.asarray(last_event, np.float64), 0.0)
    values = (np.sin(day), np.cos(day), np.sin(week), np.cos(week), gap)
    return dict(zip(CONTEXT_NAMES, (value.astype(np.float32) for value in values), strict=True))


CONTEXT_NAMES = ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos", "seconds_since_last_event")


def column(feature: Feature, values: Iterable[Any]) -> Column:
    """Plain values (None: missing) as the feature's column, defaults filled in.

    Numbers become float32, times float64, words strings; a cell of a list feature becomes a 1-D array.
    """
    kind = feature.kind
    if kind is Kind.NUMBER:
        numbers = np.array([np.nan if value is None else value for value in values], np.float32)
        return np.where(np.isnan(numbers), np.float32(feature.default), numbers)
    if kind is Kind.TIME:
        return np.array([np.nan if value is None else value for value in values], np.float64)
    if kind in (Kind.CATEGORY, Kind.TEXT):
        return object_column(["" if value is None else str(value) for value in values])
    dtype = _CELL_DTYPES[kind]
    return object_column([np.array([] if value is None else value, dtype) for value in values])


_CELL_DTYPES: dict[Kind, type] = {
    Kind.CATEGORIES: np.object_,
    Kind.IDS: np.object_,
    Kind.NUMBERS: np.float32,
    Kind.TIMES: np.float64,
    Kind.HASHES: np.uint32,
}


def encode(features: Sequence[Feature], columns: Mapping[str, Column], rows: int | None = None) -> Float32:
    """Model inputs, float32 [n, width], in the order of `schema.inputs(features)`.

    Numbers are standardised, after log(1 + x) where the feature says so; a word of the vocabulary is 1, an
    unknown one nothing; a set's known words share 1; a missing value is the default.

    Args:
        rows: n; may be left out where there is a column to count.

    Raises:
        ValueError: no column, and no count of rows either.
    """
    plan = _plan(tuple(features))
    if rows is None:
        if not columns:
            raise ValueError("without a column the number of rows has to be given")
        rows = len(next(iter(columns.values())))
    out = np.zeros((rows, plan.width), np.float32)
    if plan.numbers:
        out[:, plan.places] = plan.standardised(columns).T
    for name, index in plan.words:
        for row, word in zip(out, columns[name], strict=True):
            if (place := index.get(word)) is not None:
                row[place] = 1.0
    for name, index in plan.sets:
        for row, cell in zip(out, columns[name], strict=True):
            if places := {index[word] for word in cell if word in index}:
                row[list(places)] = 1.0 / len(places)
    return out


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What `encode` does with some features. All numbers go together: for one row, a call of numpy for each
    feature costs more than the arithmetic.

    Attributes:
        numbers: names of the numbers; `places` are their inputs, and `logs` those among them to be logged.
        default, mean, scale: float64 [numbers, 1].
        words, sets: names with word → input.
    """

    width: int
    numbers: tuple[str, ...]
    places: NDArray[np.intp]
    logs: NDArray[np.intp]
    default: NDArray[np.float64]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    words: tuple[tuple[str, dict[str, int]], ...]
    sets: tuple[tuple[str, dict[str, int]], ...]

    def standardised(self, columns: Mapping[str, Column]) -> NDArray[np.float64]:
        """The numbers as they enter, [numbers, n]."""
        values = np.array([columns[name] for name in self.numbers], np.float64)
        values = np.where(np.isfinite(values), values, self.default)
        values[self.logs] = logged(values[self.logs])
        standard: NDArray[np.float64] = (values - self.mean) / self.scale
        return np.minimum(np.maximum(standard, -WIDEST), WIDEST)


@lru_cache(maxsize=256)
def _plan(features: tuple[Feature, ...]) -> _Plan:
    starts = np.cumsum([0, *(len(feature.inputs) for feature in features)]).tolist()
    placed = list(zip(features, starts, strict=False))
    numbers = [(feature, at) for feature, at in placed if feature.kind is Kind.NUMBER]

    def of_numbers(attribute: str) -> NDArray[np.float64]:
        return np.array([[getattr(feature, attribute)] for feature, _ in numbers], np.float64)

    def indexed(kind: Kind) -> tuple[tuple[str, dict[str, int]], ...]:
        return tuple(
            (feature.name, {word: at + place for place, word in enumerate(feature.vocabulary)})
            for feature, at in placed
            if feature.kind is kind
        )

    return _Plan(
        width=starts[-1],
        numbers=tuple(feature.name for feature, _ in numbers),
        places=np.array([at for _, at in numbers], np.intp),
        logs=np.array([place for place, (feature, _) in enumerate(numbers) if feature.log], np.intp),
        default=of_numbers("default"),
        mean=of_numbers("mean"),
        scale=of_numbers("scale"),
        words=indexed(Kind.CATEGORY),
        sets=indexed(Kind.CATEGORIES),
    )


def logged(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(1 + x), with what should not be below zero taken as zero."""
    return np.log1p(np.maximum(numbers, 0.0))


def _moments(state: State) -> tuple[Float32, Float32]:
    count = np.maximum(state.count, 1.0)
    mean = state.total / count
    deviation = np.sqrt(np.maximum(state.squares / count - mean * mean, 0.0))
    return _or_nan(state, mean).astype(np.float32), _or_nan(state, deviation).astype(np.float32)


def _or_nan(state: State, values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(state.count > 0, values, np.nan)


def object_column(values: Sequence[Any]) -> NDArray[np.object_]:
    """An object column; `np.array` would make a matrix of lists that happen to be equally long."""
    out = np.empty(len(values), np.object_)
    for position, value in enumerate(values):
        out[position] = value
    return out
