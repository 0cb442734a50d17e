"""The offline side: the log of states, and training sets that know only what was known at the time.

    <directory>/user_state.parquet, item_state.parquet      a row at birth and after each event
    <directory>/user_history.parquet                        the newest row of each user
    <directory>/user_profile.parquet, item_profile.parquet  the tables' own columns

Does not belong here: what goes online (`materialize`), how examples are drawn (training).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.definitions import (
    ITEM_STATE,
    ITEM_TRAINING,
    USER_HISTORY,
    USER_STATE,
    USER_TRAINING,
    views,
)
from features.feast_api import FeatureStore
from features.progress import Step, silent
from features.rows import Rows, Timelines
from features.schema import EVENT_TIME, ITEM_ID, USER_ID, Feature, FeatureSchema, Kind
from features.statistics import State, Timeline
from features.store import Column
from features.transforms import column, item_statistics, items_at, user_statistics

Int64 = NDArray[np.int64]
ENTITY_ROWS = 10_000
"""Entity rows of one Feast query. Its file store joins every row with the whole log of that entity before it
drops what is too new: some 250 rows each for MovieLens-100K, so 10,000 hold a few hundred MB."""

ARROW: dict[Kind, pa.DataType] = {
    Kind.NUMBER: pa.float32(),
    Kind.TIME: pa.float64(),
    Kind.CATEGORY: pa.string(),
    Kind.TEXT: pa.string(),
    Kind.CATEGORIES: pa.list_(pa.string()),
    Kind.IDS: pa.list_(pa.string()),
    Kind.NUMBERS: pa.list_(pa.float32()),
    Kind.TIMES: pa.list_(pa.float64()),
    Kind.HASHES: pa.list_(pa.int64()),
}


def stamps(timestamp: Int64) -> Int64:
    """Microseconds since 1970 for events in file order, int64 [n]: the event's second, and within it just
    enough to make all of them distinct and ordered by (time, file order)."""
    order = np.argsort(timestamp, kind="stable")
    place = np.arange(len(order))
    out = np.empty(len(order), np.int64)
    # The largest of (own second, predecessor + 1), written as a running maximum.
    out[order] = np.maximum.accumulate(timestamp[order] * 1_000_000 - place) + place if len(order) else 0
    return out


def write_logs(schema: FeatureSchema, lines: Timelines, users: Rows, items: Rows, directory: Path) -> None:
    """Writes the five files, each complete or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    stamp = stamps(lines.timestamp)
    birth = min(0, int(stamp.min(initial=0)) - 1)
    for view, (key, features) in views(schema).items():
        rows = users if key == USER_ID else items
        ids = pa.array(rows.ids, pa.string())
        if view in (USER_STATE, ITEM_STATE):
            line, code = (lines.user, lines.user_code) if key == USER_ID else (lines.item, lines.item_code)
            statistics = user_statistics if key == USER_ID else item_statistics
            columns: Mapping[str, Column] = statistics(_with_birth(line))
            ids = pa.concat_arrays([ids, ids.take(pa.array(code[line.order]))])
            when = np.concatenate([np.full(len(line.sizes), birth), stamp[line.order]])
        else:
            columns = rows.columns
            when = micros(rows.newest) if view == USER_HISTORY else np.full(len(ids), birth)
        _write(directory / f"{view}.parquet", key, ids, when, features, columns)


def _with_birth(line: Timeline) -> State:
    """An empty state for each entity, then the state after each event. Without the former Feast's file store
    leaves out an entity asked for before its first event, profile and all."""
    empty = State.empty(len(line.sizes))
    parts = ((getattr(empty, f.name), getattr(line.states, f.name)) for f in fields(State))
    return State(*map(np.concatenate, parts))


def micros(newest: NDArray[np.float64]) -> Int64:
    """Unix seconds as microseconds; 1970 where there was no event."""
    return (np.nan_to_num(newest, nan=0.0) * 1e6).astype(np.int64)


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Columns as known just before each of `n` events; items' popularity is decayed to that moment."""

    user: Mapping[str, Column]
    item: Mapping[str, Column]


def training_set(
    store: FeatureStore,
    schema: FeatureSchema,
    user_ids: Sequence[str],
    item_ids: Sequence[str],
    stamp: Int64,
    progress: Step = silent,
) -> TrainingSet:
    """Features of (user, item, moment) triples through Feast's point-in-time join.

    Only what was logged strictly before a stamp counts: for an event of the log itself (`stamps`), its own
    row is left out. Entities not seen before have the defaults. Users' histories are not in the log; take
    them from `Timeline.history`. Feast's file store needs about 1 ms a row: for more than some 100,000 rows
    compute the same columns with `Timeline.at`, which a test holds equal.

    Args:
        stamp: microseconds since 1970, int64 [n].
    """
    every = views(schema)

    def fetch(service: str, key: str, ids: Sequence[str]) -> dict[str, Column]:
        wanted = [f for view, (k, fs) in every.items() if k == key and view != USER_HISTORY for f in fs]
        return _point_in_time(store, service, key, np.array(ids, np.object_), stamp, wanted, progress)

    user, item = fetch(USER_TRAINING, USER_ID, user_ids), fetch(ITEM_TRAINING, ITEM_ID, item_ids)
    return TrainingSet(user, items_at(item, stamp / 1e6))


def _point_in_time(
    store: FeatureStore,
    service: str,
    key: str,
    ids: NDArray[np.object_],
    stamp: Int64,
    features: Sequence[Feature],
    progress: Step,
) -> dict[str, Column]:
    """One Feast query a chunk, of distinct (entity, moment) pairs: Feast drops all but one of equal ones."""
    if not len(ids):
        return {feature.name: column(feature, []) for feature in features}
    pairs = pd.MultiIndex.from_arrays([ids, stamp])
    inverse, distinct = pd.factorize(pairs)
    feast_service = store.get_feature_service(service)
    parts = []
    for begin in range(0, len(distinct), ENTITY_ROWS):
        chunk = distinct[begin : begin + ENTITY_ROWS]
        entities = pd.DataFrame(
            {
                key: chunk.get_level_values(0),
                # Feast takes what is not later than the moment: a microsecond earlier means strictly before.
                EVENT_TIME: pd.to_datetime(chunk.get_level_values(1) - 1, unit="us", utc=True),
                "place": np.arange(len(chunk)),
            }
        )
        frame = store.get_historical_features(entities, feast_service).to_df()
        if len(frame) != len(chunk):
            raise RuntimeError(f"Feast answered {len(frame)} rows for {len(chunk)} of {service}")
        parts.append(frame.sort_values("place"))
        progress(service, min(begin + ENTITY_ROWS, len(distinct)), len(distinct))
    frame = pd.concat(parts)
    return {f.name: column(f, _plain(frame[f.name]))[inverse] for f in features}


def _plain(values: pd.Series[Any]) -> list[Any]:
    """Python values, None where pandas has any of its marks for missing."""
    return [None if np.ndim(value) == 0 and pd.isna(value) else value for value in values]


def _write(
    path: Path,
    key: str,
    ids: pa.Array,
    when: Int64,
    features: Sequence[Feature],
    columns: Mapping[str, Column],
) -> None:
    table = pa.table(
        {
            key: ids,
            EVENT_TIME: pa.array(when, pa.int64()).cast(pa.timestamp("us", "UTC")),
            **{f.name: pa.array(columns[f.name], ARROW[f.kind], from_pandas=True) for f in features},
        }
    )
    partial = path.with_name(f".{path.name}.partial")
    try:
        pq.write_table(table, partial, compression="zstd")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
