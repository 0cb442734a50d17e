"""The common schema: three Arrow tables, and their form on disk.

    interactions  user_id, item_id  dictionary<int32, string>
                  value             float32, strength of the event (for films a rating); 1.0 if none is given
                  timestamp         int64, unix seconds
    items         item_id string, title string (optional), further columns of any type
    users         user_id string, further columns of any type

No column of interactions holds a null. Its row order is the file's, and breaks ties of time. Ids there are
dictionary-encoded because they repeat: 32 million ratings take 20 bytes a row. Every id of interactions has
exactly one row in items and in users; where the source had none, its other columns are null.

Does not belong here: where tables come from (`own`, `movielens`, `synthetic`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from training.data.manifest import FILE_NAME, PLAIN, TABLE_NAMES, About, DataError, Facts, Manifest, utf8
from training.data.repeats import without_duplicates

ID = pa.dictionary(pa.int32(), pa.string())
INTERACTIONS = pa.schema(
    [("user_id", ID), ("item_id", ID), ("value", pa.float32()), ("timestamp", pa.int64())]
)

ROW_GROUP_ROWS = 1 << 20
"""Rows written at a time, 20 MB of interactions: what a reader of one group must hold."""


@dataclass(frozen=True, slots=True)
class Tables:
    """A data set in the schema above. Build it with `assemble`, which makes it whole."""

    interactions: pa.Table
    items: pa.Table
    users: pa.Table
    about: About
    facts: Facts = PLAIN

    @staticmethod
    def assemble(
        interactions: pa.Table,
        items: pa.Table | None,
        users: pa.Table | None,
        about: About,
        facts: Facts = PLAIN,
    ) -> Tables:
        """Tables from what was read: ids without a row get one, after the others, in order of appearance;
        of an event that was delivered more than once only the first row stays.

        Raises:
            DataError: there is no interaction.
        """
        if not interactions.num_rows:
            raise DataError(f"{about.source}: no interaction to learn from")
        interactions = interactions.select(INTERACTIONS.names).cast(INTERACTIONS)
        interactions, facts = without_duplicates(interactions, facts)
        about = replace(about, name=utf8(about.name), source=utf8(about.source))
        facts = replace(facts, listed_items=None if items is None else items.num_rows)
        return Tables(
            interactions,
            _with_missing(items, "item_id", interactions["item_id"]),
            _with_missing(users, "user_id", interactions["user_id"]),
            about,
            facts,
        )

    def write(self, directory: Path, request: Mapping[str, object] | None = None) -> Manifest:
        """Writes the three Parquet files and `dataset.json`, replacing what `directory` held before.

        Everything is written beside it first and renamed at the end, so a killed run never leaves a
        mixture, and its leftovers are put right by the next.
        """
        partial = directory.with_name(f".{directory.name}.partial")
        replaced = directory.with_name(f".{directory.name}.replaced")
        _clear(directory, partial, replaced)
        partial.mkdir(parents=True)
        try:
            for name in TABLE_NAMES:
                path = partial / f"{name}.parquet"
                pq.write_table(getattr(self, name), path, row_group_size=ROW_GROUP_ROWS, compression="zstd")
                _sync(path)
            manifest = self._manifest(partial, request or {})
            (partial / FILE_NAME).write_text(manifest.to_json(), encoding="utf-8")
            _sync(partial / FILE_NAME)
            if directory.exists():
                directory.rename(replaced)
            partial.rename(directory)
        finally:
            _clear(directory, partial, replaced)
        return manifest

    @staticmethod
    def read(directory: Path) -> Tables:
        """What `write` wrote.

        Raises:
            DataError: there is no complete data set.
        """
        manifest = Manifest.read(directory)
        try:
            read = {name: pq.read_table(directory / f"{name}.parquet") for name in TABLE_NAMES}
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{directory} cannot be read ({error}): run `marquee data --force`") from error
        return Tables(
            **{**read, "interactions": read["interactions"].unify_dictionaries()},
            about=manifest.about,
            facts=manifest.facts,
        )

    def _manifest(self, directory: Path, request: Mapping[str, object]) -> Manifest:
        window = pc.min_max(self.interactions["timestamp"]).as_py()
        return Manifest(
            about=self.about,
            request=request,
            counts={name: getattr(self, name).num_rows for name in TABLE_NAMES},
            window=(window["min"], window["max"]),
            bytes={name: (directory / f"{name}.parquet").stat().st_size for name in TABLE_NAMES},
            facts=self.facts,
        )


def _with_missing(table: pa.Table | None, key: str, used: pa.ChunkedArray) -> pa.Table:
    seen = pc.unique(used).cast(pa.string())
    if table is None:
        return pa.table({key: seen})
    missing = seen.filter(pc.invert(pc.is_in(seen, value_set=table[key].combine_chunks())))
    table = table.select([key, *(name for name in table.column_names if name != key)])
    if not len(missing):
        return table.combine_chunks()
    empty = {field.name: pa.nulls(len(missing), field.type) for field in table.schema if field.name != key}
    return pa.concat_tables([table, pa.table({key: missing, **empty}, schema=table.schema)]).combine_chunks()


def _clear(directory: Path, partial: Path, replaced: Path) -> None:
    """Removes leftovers, and puts the old data back where a write stopped between its two renames."""
    if replaced.exists() and not directory.exists():
        replaced.rename(directory)
    for leftover in (partial, replaced):
        shutil.rmtree(leftover, ignore_errors=True)


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
