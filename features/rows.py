"""From tables to rows: what is known of each user and item, now or as of any of their events.

The one place where Arrow tables become feature columns; the online stores, the offline log and schema
inference all start here, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat
from numpy.typing import NDArray

from features.hashing import hashed
from features.schema import (
    HISTORY_KINDS,
    HISTORY_LENGTH,
    ITEM_ID,
    USER_ID,
    Feature,
    FeatureSchema,
    Kind,
    SchemaError,
)
from features.statistics import Int, Timeline
from features.store import Column
from features.transforms import column, item_statistics, user_statistics

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Timelines:
    """The interactions, by user and by item. Codes are rows of the users and items tables.

    Attributes:
        user_ids, item_ids: the tables' ids, in their order.
        user_code, item_code: intp [n], of each interaction in file order.
        value: float32 [n]. timestamp: int64 [n], unix seconds.
    """

    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    user_code: Int
    item_code: Int
    value: NDArray[np.float32]
    timestamp: NDArray[np.int64]
    user: Timeline
    item: Timeline


@dataclass(frozen=True, slots=True)
class Rows:
    """What is known of entities: `ids` [n], name → column [n], and `newest`, float64 [n], unix seconds of the
    newest event that went in (NaN: none)."""

    ids: tuple[str, ...]
    columns: Mapping[str, Column]
    newest: NDArray[np.float64]


def timelines(interactions: pa.Table, items: pa.Table, users: pa.Table) -> Timelines:
    """Sorts the interactions once by user and once by item.

    Raises:
        SchemaError: an interaction names a user or an item that its table does not hold.
    """
    user_code, item_code = _codes(interactions, users, USER_ID), _codes(interactions, items, ITEM_ID)
    value = interactions["value"].to_numpy().astype(np.float32, copy=False)
    timestamp = interactions["timestamp"].to_numpy().astype(np.int64, copy=False)
    return Timelines(
        tuple(users[USER_ID].to_pylist()),
        tuple(items[ITEM_ID].to_pylist()),
        user_code,
        item_code,
        value,
        timestamp,
        Timeline.of(user_code, value, timestamp, users.num_rows),
        Timeline.of(item_code, value, timestamp, items.num_rows),
    )


def user_rows(schema: FeatureSchema, lines: Timelines, users: pa.Table) -> Rows:
    """Every user's row after all interactions, history included, in the users table's order."""
    state = lines.user.latest()
    computed = {**user_statistics(state), **histories(schema, lines, lines.user.sizes)}
    newest = np.where(state.count > 0, state.last, np.nan)
    return Rows(lines.user_ids, _columns(schema.user, computed, users), newest)


def item_rows(schema: FeatureSchema, lines: Timelines, items: pa.Table) -> Rows:
    """Every item's row after all interactions, in the items table's order."""
    state = lines.item.latest()
    newest = np.where(state.count > 0, state.last, np.nan)
    return Rows(lines.item_ids, _columns(schema.item, item_statistics(state), items), newest)


def histories(schema: FeatureSchema, lines: Timelines, seen: Int) -> dict[str, Column]:
    """History columns of every user after their first `seen` [users] events: the newest `HISTORY_LENGTH`, and
    what is kept of those before."""
    item_ids = np.array(lines.item_ids, np.object_)
    counts = enumerate(seen.tolist())
    rows = [lines.user.history(user, count, HISTORY_LENGTH) for user, count in counts]
    older = [_older(lines, user, int(seen[user]), rows[user]) for user in range(len(rows))]
    cells: dict[str, list[NDArray[Any]]] = {
        "history_items": [item_ids[lines.item_code[at]] for at in rows],
        "history_values": [lines.value[at] for at in rows],
        "history_times": [lines.timestamp[at] for at in rows],
        "older_items": [hashes for hashes, _ in older],
        "older_values": [values for _, values in older],
    }
    return {f.name: column(f, cells[f.name]) for f in schema.user if f.kind in HISTORY_KINDS}


def _older(lines: Timelines, user: int, seen: int, kept: Int) -> tuple[NDArray[np.uint32], Float32]:
    """Hashes of the items whose every event lies before the `kept` ones of a user, ascending, and the newest
    value of each."""
    if len(kept) == seen:
        return np.empty(0, np.uint32), np.empty(0, np.float32)
    rows = lines.user.history(user, seen, seen)[: seen - len(kept)][::-1]  # newest first
    items, newest = np.unique(lines.item_code[rows], return_index=True)
    gone = ~np.isin(items, lines.item_code[kept])
    items, newest = items[gone], newest[gone]
    hashes = hashed([lines.item_ids[item] for item in items.tolist()])
    order = np.argsort(hashes, kind="stable")
    return hashes[order], lines.value[rows[newest]][order]


def profiles(features: Sequence[Feature], table: pa.Table) -> dict[str, Column]:
    """The columns of a users or items table that are features, in the schema's order."""
    present = set(table.column_names)
    return {f.name: arrow_column(f, table[f.name]) for f in features if f.name in present}


def arrow_column(feature: Feature, values: pa.ChunkedArray) -> Column:
    """An Arrow column as the feature's column; nulls, and numbers that float32 has not, as its default."""
    if feature.kind is Kind.NUMBER:
        with np.errstate(over="ignore"):
            numbers = values.cast(pa.float64(), safe=False).to_numpy().astype(np.float32)
        return np.where(np.isfinite(numbers), numbers, np.float32(feature.default))
    if feature.kind is Kind.TIME:  # unsafe: of a year 1 in microseconds a float64 has not each one
        if pat.is_date(values.type) or pat.is_timestamp(values.type):
            values = values.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
            return np.asarray(values.cast(pa.float64(), safe=False).to_numpy() / 1e6, np.float64)
        return np.asarray(values.cast(pa.float64(), safe=False).to_numpy(), np.float64)
    return column(feature, values.to_pylist())


def _columns(
    features: Sequence[Feature], computed: Mapping[str, Column], table: pa.Table
) -> dict[str, Column]:
    static = profiles([f for f in features if f.name not in computed], table)
    out = {}
    for feature in features:
        if feature.name in computed:
            values = computed[feature.name]
            out[feature.name] = values if feature.kind in HISTORY_KINDS else column(feature, values)
        elif feature.name in static:
            out[feature.name] = static[feature.name]
        else:  # a table without this column, read under a schema that has it
            out[feature.name] = column(feature, [None] * table.num_rows)
    return out


def _codes(interactions: pa.Table, table: pa.Table, key: str) -> Int:
    ids = table[key].combine_chunks()
    used = interactions[key]
    if not pat.is_dictionary(used.type):
        used = used.dictionary_encode()
    used = used.unify_dictionaries().combine_chunks()
    if isinstance(used, pa.ChunkedArray):  # no rows, no chunk
        return np.empty(0, np.intp)
    position = pc.index_in(used.dictionary.cast(ids.type), value_set=ids)
    codes = position.take(used.indices)
    if codes.null_count:
        missing = used.filter(pc.is_null(codes))[0].as_py()
        raise SchemaError(
            f"interactions name the {key} {missing!r}, which is not in the {key.removesuffix('_id')}s table"
        )
    return np.asarray(codes.to_numpy(zero_copy_only=False), np.intp)
