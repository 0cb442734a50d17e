"""Finds the feature schema of three tables, by the types of their columns. Deterministic: equal tables, in
equal order, give equal schemas. Reads values only to standardise numbers and to list words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.types as pat
from numpy.typing import NDArray

from features.rows import arrow_column, timelines
from features.schema import EVENT_TIME, ITEM_ID, USER_ID, Feature, FeatureSchema, Kind, SchemaError
from features.statistics import DAY_S
from features.store import Column
from features.transforms import column, context, item_statistics, items_at, logged, user_statistics

MAX_VOCABULARY = 64
"""Words of a category that get an input each. Columns of strings with more are text (names, post codes); of
sets (genres, tags), the most frequent are kept."""

MIN_ROWS_PER_WORD = 2
"""Rows that share a word, on average, for strings to be a category: in a small table, all texts are few."""

SKEWED = 2.0
"""Skewness above which a number that is never negative enters as its logarithm. Counts and prices lie far
above (an exponential has 2), ages and years far below."""

STATE_TTL_S = 30 * DAY_S
"""Age after which statistics and history are reported as stale: a month without an event, or without the
job that writes them."""

_state = partial(Feature, ttl_s=STATE_TTL_S)
_count = partial(_state, kind=Kind.NUMBER, unit="events", log=True)  # the 10th says more than the 500th

_USER_STATISTICS = (
    _count("user_events", description="events so far"),
    _state("user_value_mean", Kind.NUMBER, "mean value of the user's events", "value"),
    _state("user_value_std", Kind.NUMBER, "standard deviation of those", "value"),
    _count("user_activity", description="events, halved every 30 days, as of the last one"),
    _state("user_tenure_days", Kind.NUMBER, "from the first event to the last", "days", log=True),
    _state("user_last_event_at", Kind.TIME, "latest event", "unix s"),
)
_HISTORY = (
    _state("history_items", Kind.IDS, "items of the newest events, newest last", "item ids"),
    _state("history_values", Kind.NUMBERS, "their values", "value"),
    _state("history_times", Kind.TIMES, "their times", "unix s"),
    _state("older_items", Kind.HASHES, "items of the events before these, each once", "hashes of item ids"),
    _state("older_values", Kind.NUMBERS, "the newest value of each of them", "value"),
)
_ITEM_STATISTICS = (
    _count("item_events", description="events so far"),
    _state("item_value_mean", Kind.NUMBER, "mean value of the item's events", "value"),
    _state("item_value_std", Kind.NUMBER, "standard deviation of those", "value"),
    _count("item_popularity", description="events, halved every 30 days (stored as of the last one)"),
    _state("item_last_event_at", Kind.TIME, "latest event", "unix s"),
)
_CONTEXT = (
    Feature("hour_sin", Kind.NUMBER, "hour of day (UTC) on a circle"),
    Feature("hour_cos", Kind.NUMBER, "hour of day (UTC) on a circle"),
    Feature("weekday_sin", Kind.NUMBER, "day of week (UTC) on a circle"),
    Feature("weekday_cos", Kind.NUMBER, "day of week (UTC) on a circle"),
    Feature("seconds_since_last_event", Kind.NUMBER, "since the user's latest event", "s", log=True),
)

NOW, PACKED = "now", "packed"
"""Names beside the features': the moment of a request, and a whole row as one value (`definitions`)."""

RESERVED = frozenset(
    {USER_ID, ITEM_ID, EVENT_TIME, NOW, PACKED}.union(
        feature.name for feature in (*_USER_STATISTICS, *_HISTORY, *_ITEM_STATISTICS, *_CONTEXT)
    )
)
"""Names that a column of items or users cannot have."""


def infer(interactions: pa.Table, items: pa.Table, users: pa.Table) -> FeatureSchema:
    """The schema of tables in the common form (interactions: user_id, item_id, value, timestamp; items and
    users: an id and any columns).

    Columns become features by type: numbers and booleans numbers; strings categories where their words are
    few and shared, else text, as `title` always is; lists of strings sets of categories; dates times. Other
    types are named in `ignored`. Statistics are standardised over the states before each event, which is
    what a model trains on.

    Raises:
        SchemaError: a column's name clashes with a feature's.
    """
    lines = timelines(interactions, items, users)
    user = lines.user.at(lines.user_code, lines.user.rank)
    item = lines.item.at(lines.item_code, lines.item.rank)
    moments = context(lines.timestamp, np.where(user.count > 0, user.last, np.nan))
    prior = _prior(interactions)
    schema = FeatureSchema(
        user=(
            *_standardised(_USER_STATISTICS, user_statistics(user), prior),
            *_HISTORY,
            *_columns(users, USER_ID),
        ),
        item=(
            *_standardised(_ITEM_STATISTICS, items_at(item_statistics(item), lines.timestamp), prior),
            *_columns(items, ITEM_ID),
        ),
        context=tuple(_neutral(_fit(feature, moments[feature.name])) for feature in _CONTEXT),
        ignored=(*_ignored("users", users), *_ignored("items", items)),
    )
    _require_distinct(schema)
    return schema


def _standardised(
    features: tuple[Feature, ...], columns: dict[str, Column], prior: float
) -> Iterator[Feature]:
    for feature in features:
        if feature.kind is Kind.NUMBER:
            if feature.name.endswith("_value_mean"):
                feature = replace(feature, default=prior)
            yield _fit(feature, column(feature, columns[feature.name]))
        else:
            yield feature


def _prior(interactions: pa.Table) -> float:
    """Mean value of all events: what to expect of a user or an item that has none."""
    values = interactions["value"].to_numpy()
    return float(np.float32(values.mean(dtype=np.float64))) if len(values) else 0.0


def _columns(table: pa.Table, key: str) -> Iterator[Feature]:
    for field in table.schema:
        kind = _kind(field)
        if field.name == key or kind is None:
            continue
        feature = Feature(field.name, kind, f"column of the {key.removesuffix('_id')}s table")
        if kind is Kind.NUMBER:
            without_default = replace(feature, default=float("nan"))
            yield _neutral(_fit(feature, arrow_column(without_default, table[field.name])))
            continue
        values = arrow_column(feature, table[field.name])
        if kind is Kind.CATEGORIES:
            yield replace(feature, vocabulary=_frequent(word for cell in values for word in cell))
        elif kind is Kind.CATEGORY:
            words = set(values) - {""}
            shared = len(words) <= MAX_VOCABULARY and len(words) * MIN_ROWS_PER_WORD <= len(values)
            if shared and words and field.name != "title":
                yield replace(feature, vocabulary=tuple(sorted(words)))
            else:
                yield replace(feature, kind=Kind.TEXT)
        else:
            yield feature


def _kind(field: pa.Field) -> Kind | None:
    kind = field.type.value_type if pat.is_dictionary(field.type) else field.type
    if pat.is_integer(kind) or pat.is_floating(kind) or pat.is_boolean(kind) or pat.is_decimal(kind):
        return Kind.NUMBER
    if pat.is_string(kind) or pat.is_large_string(kind):
        return Kind.CATEGORY
    if pat.is_date(kind) or pat.is_timestamp(kind):
        return Kind.TIME
    if (pat.is_list(kind) or pat.is_large_list(kind)) and (
        pat.is_string(kind.value_type) or pat.is_large_string(kind.value_type)
    ):
        return Kind.CATEGORIES
    return None


def _ignored(name: str, table: pa.Table) -> list[str]:
    return [f"{name}.{field.name}" for field in table.schema if _kind(field) is None]


def _frequent(words: Iterable[str]) -> tuple[str, ...]:
    ranked = sorted(Counter(words).items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(sorted(word for word, _ in ranked[:MAX_VOCABULARY]))


def _fit(feature: Feature, values: Column) -> Feature:
    """The feature with its logarithm, mean and scale settled from the finite values."""
    numbers = np.asarray(values, np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return feature
    log = feature.log or bool(numbers.min() >= 0 and _skewness(numbers) > SKEWED)
    entering = logged(numbers) if log else numbers
    scale = float(entering.std())
    return replace(feature, log=log, mean=float(entering.mean()), scale=scale if scale > 1e-9 else 1.0)


def _neutral(feature: Feature) -> Feature:
    """The feature with a default that enters a model as 0, which says nothing."""
    raw = np.expm1(feature.mean) if feature.log else feature.mean
    return replace(feature, default=float(np.float32(raw)))


def _skewness(numbers: NDArray[np.float64]) -> float:
    centred = numbers - numbers.mean()
    scale = centred.std()
    return float((centred**3).mean() / scale**3) if scale > 1e-9 else 0.0


def _require_distinct(schema: FeatureSchema) -> None:
    taken = {USER_ID, ITEM_ID, EVENT_TIME, NOW, PACKED}
    for feature in (*schema.user, *schema.item, *schema.context):
        if feature.name in taken:
            raise SchemaError(
                f"column {feature.name!r}: the name is taken by another feature; rename the column"
            )
        taken.add(feature.name)
