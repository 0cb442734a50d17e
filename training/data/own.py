"""A user's own data: a folder with interactions, items and users, each as Parquet or CSV.

`docs/data.md` describes it for those who write such a folder. Interactions need `user_id`, `item_id` and
`timestamp`; `value` is optional. Items and users are optional, and so is every column but their id. Further
columns are taken with the type they have in Parquet, or that all values of a CSV column agree on; a CSV
column named `name[]` holds lists, separated by `|`.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from training.data.columns import (
    Column,
    blank_to_null,
    coded_identifier,
    identifier,
    infer_type,
    split_lists,
    timestamp,
    value,
)
from training.data.ingest import Ingest, TextFormat, header_of
from training.data.manifest import About, DataError
from training.data.tables import Tables

LICENCE = "your own data: no licence recorded"
LIST_MARK = "[]"
_CSV = TextFormat()


def is_own(folder: Path) -> bool:
    """Whether the folder holds interactions in this form."""
    return any((folder / f"interactions{suffix}").is_file() for suffix in (".parquet", ".csv"))


def read_own(folder: Path, ingest: Ingest) -> Tables:
    """The folder's tables.

    Raises:
        DataError: a file is unreadable, lacks a column, is there twice, or has too many malformed rows.
    """
    interactions = _find(folder, "interactions")
    if interactions is None:
        raise DataError(f"{folder} holds neither interactions.parquet nor interactions.csv")
    events = _interactions(interactions, ingest)
    items, users = (
        _entities(folder, "items", "item_id", ingest),
        _entities(folder, "users", "user_id", ingest),
    )
    return Tables.assemble(
        events, items, users, About(folder.name, str(folder), LICENCE, tuple(ingest.reports))
    )


def _find(folder: Path, name: str) -> Path | None:
    found = [path for suffix in (".parquet", ".csv") if (path := folder / f"{name}{suffix}").is_file()]
    if len(found) > 1:
        raise DataError(f"{folder} holds {name} twice, as Parquet and as CSV: remove one")
    return found[0] if found else None


def _names(path: Path) -> tuple[str, ...]:
    if path.suffix == ".csv":
        return header_of(path, _CSV)
    try:
        return tuple(pq.read_schema(path).names)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path.name}: not a readable Parquet file ({error})") from error


def _read(path: Path, columns: list[Column], ingest: Ingest, unique: str | None = None) -> pa.Table:
    if path.suffix == ".csv":
        return ingest.text(path, _CSV, columns, unique)
    return ingest.parquet(path, columns, unique)


def _interactions(path: Path, ingest: Ingest) -> pa.Table:
    has_value = "value" in _names(path)
    columns = [
        coded_identifier("user_id", "user_id"),
        coded_identifier("item_id", "item_id"),
        *([value("value")] if has_value else []),
        timestamp("timestamp"),
    ]
    table = _read(path, columns, ingest)
    if has_value:
        return table
    return table.append_column("value", pa.repeat(pa.scalar(1.0, pa.float32()), table.num_rows))


def _entities(folder: Path, name: str, key: str, ingest: Ingest) -> pa.Table | None:
    path = _find(folder, name)
    if path is None:
        return None
    further = [Column(found, found) for found in _names(path) if found != key]
    table = _read(path, [identifier(key, key), *further], ingest, unique=key)
    if path.suffix == ".parquet":
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
