"""A user's own data: a folder or zip with interactions, items and users, each as Parquet or CSV.

`docs/data.md` describes it for those who write such a folder. Interactions need `user_id` and `item_id`;
`value` and `timestamp` are optional. Items and users are optional, and so is every column but their id.
Further columns of these are taken with the type they have in Parquet, or that all values of a CSV column
agree on; a CSV column named `name[]` holds lists, separated by `|`.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources.abc import Traversable
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.inference import RESERVED
from training.data.cells import blank_to_null, infer_type, split_lists
from training.data.columns import Column, coded_identifier, identifier, timestamp, value
from training.data.file_order import times_of_order
from training.data.ingest import UNREADABLE, Ingest, said
from training.data.manifest import About, DataError, Facts
from training.data.plain_text import TextFormat, header_of
from training.data.tables import INTERACTIONS, Tables

LICENCE = "your own data: no licence recorded"
LIST_MARK = "[]"
SUFFIXES = (".parquet", ".csv")
_CSV = TextFormat()


def is_own(folder: Traversable) -> bool:
    """Whether the folder holds interactions in this form."""
    return any((folder / f"interactions{suffix}").is_file() for suffix in SUFFIXES)


def read_own(folder: Traversable, ingest: Ingest, source: str | None = None) -> Tables:
    """The folder's tables.

    Args:
        source: where the folder comes from, for people; its own path where None.

    Raises:
        DataError: a file is unreadable, lacks a column, is there twice, has too many malformed rows, or has
            ids of which interactions have none.
    """
    interactions = _find(folder, "interactions")
    if interactions is None:
        raise DataError(f"{folder} holds neither interactions.parquet nor interactions.csv")
    events, timed = _interactions(interactions, ingest)
    joins, tables, names = [], {}, set(RESERVED)
    for name, key in (("items", "item_id"), ("users", "user_id")):
        path = _find(folder, name)
        if path is None:
            continue
        table = _named(_entities(path, key, ingest), path.name, key, names, ingest)
        names.update(table.column_names)
        tables[name] = table
        joins.append(ingest.joined(events, table, key, (interactions.name, path.name)))
    about = About(folder.name, source or str(folder), LICENCE, tuple(ingest.reports))
    facts = Facts(timed=timed, joins=tuple(joins), notes=tuple(ingest.notes))
    return Tables.assemble(events, tables.get("items"), tables.get("users"), about, facts)


def _find(folder: Traversable, name: str) -> Traversable | None:
    found = [path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").is_file()]
    if len(found) > 1:
        raise DataError(f"{folder} holds {name} twice, as Parquet and as CSV: remove one")
    return found[0] if found else None


def _is_csv(path: Traversable) -> bool:
    return path.name.endswith(".csv")


def _names(path: Traversable, ingest: Ingest) -> list[str]:
    """The names of the columns that have one."""
    try:
        if _is_csv(path):
            names = list(header_of(path, _CSV).names)
        else:
            with cast(BinaryIO, path.open("rb")) as stream:
                names = list(pq.read_schema(stream).names)
    except UNREADABLE as error:
        raise DataError(
            f"{path.name}: not a readable {'CSV' if _is_csv(path) else 'Parquet'} file ({said(error)})"
        ) from error
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise DataError(f"{path.name}: two columns have the same name: {', '.join(twice)}; rename one")
    named = [name for name in names if name and not name.startswith("__index_level_")]
    if len(named) < len(names):
        ingest.notes.append(f"{path.name}: a column without a name is not used (an index?)")
    return named


def _read(path: Traversable, columns: list[Column], ingest: Ingest, unique: str | None = None) -> pa.Table:
    if _is_csv(path):
        return ingest.text(path, _CSV, columns, unique)
    return ingest.parquet(path, columns, unique)


def _interactions(path: Traversable, ingest: Ingest) -> tuple[pa.Table, bool]:
    """The events, and whether they came with times."""
    present = _names(path, ingest)
    columns = [coded_identifier("user_id", "user_id"), coded_identifier("item_id", "item_id")]
    columns += [make(name) for name, make in (("value", value), ("timestamp", timestamp)) if name in present]
    table = _read(path, columns, ingest)
    unused = [name for name in present if name not in INTERACTIONS.names]
    if unused:
        ingest.notes.append(f"{path.name}: not used: {', '.join(unused)} (events have a value and a time)")
    timed = "timestamp" in present
    if not table.num_rows:
        first = "".join(f": {reject.why}" for reject in ingest.reports[-1].first[:1])
        raise DataError(f"{path.name}: no interaction to learn from{first}")
    if "value" not in present:
        table = table.append_column("value", pa.repeat(pa.scalar(1.0, pa.float32()), table.num_rows))
    if not timed:
        user = table["user_id"].combine_chunks().indices.to_numpy()
        table = table.append_column("timestamp", pa.array(times_of_order(np.asarray(user))))
        ingest.notes.append(f"{path.name}: no column timestamp: the order of its rows is taken for the time")
    return table, timed


def _entities(path: Traversable, key: str, ingest: Ingest) -> pa.Table:
    names = _names(path, ingest)
    for name in names:
        if name.endswith(LIST_MARK) and _is_csv(path) and name.removesuffix(LIST_MARK) in ("", *names):
            plain = name.removesuffix(LIST_MARK)
            raise DataError(
                f"{path.name}: the columns {plain!r} and {name!r} would both be {plain!r}: rename one"
            )
    further = [Column(name, name) for name in names if name != key]
    table = _read(path, [identifier(key, key), *further], ingest, unique=key)
    if not _is_csv(path):
        return table
    typed = {key: table[key]}
    for column in further:
        if column.name == "title":
            typed["title"] = blank_to_null(table["title"])
        elif column.name.endswith(LIST_MARK):
            typed[column.name.removesuffix(LIST_MARK)] = split_lists(table[column.name])
        else:
            typed[column.name] = infer_type(table[column.name])
    return pa.table(typed)


def _named(table: pa.Table, file: str, key: str, taken: Iterable[str], ingest: Ingest) -> pa.Table:
    """The table with `item_` or `user_` before every name that is taken: by a column of the other table, or
    by a feature that Marquee computes.

    Raises:
        DataError: that name is taken as well.
    """
    taken, prefix = set(taken), key.removesuffix("id")
    names = {name: f"{prefix}{name}" if name in taken else name for name in table.column_names if name != key}
    for name, new in names.items():
        if new == name:
            continue
        if new in taken or list(names.values()).count(new) > 1:
            raise DataError(f"{file}: column {name!r}: the name is taken, and {new!r} as well: rename it")
        ingest.notes.append(f"{file}: column {name!r} is called {new!r}, as another feature has its name")
    return table.rename_columns([names.get(name, name) for name in table.column_names])
