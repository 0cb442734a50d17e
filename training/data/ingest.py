"""Files → Arrow, block by block: malformed rows are set aside, counted and named, never guessed at.

Memory holds one block of text and the typed columns read so far, so a ratings file of any size costs about
its typed size. Does not belong here: what the columns of a particular layout mean.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.limits import MAX_ID_CHARS
from features.progress import Step, silent
from training.data.cells import Unsuitable, blank_to_null, is_text, plain_types
from training.data.columns import Column
from training.data.joins import joined
from training.data.manifest import KEPT_REJECTS, MAX_REJECTED_SHARE, DataError, FileReport, Join, Reject
from training.data.plain_text import (
    UNIT_SEPARATOR,
    Header,
    PlainText,
    TextFormat,
    first_line_not_utf8,
    header_of,
    lines_of_records,
)

BLOCK_BYTES = 4 << 20
"""Text parsed at a time. Larger blocks are no faster; smaller ones repeat the id dictionaries more often."""

PARQUET_BATCH_ROWS = 1 << 17

_RECORD = "__record"
_RECORD_TYPE = pa.uint32()  # four bytes a row, and four billion rows


@dataclass(slots=True)
class _Log:
    """The rows of one file so far."""

    file: str
    rows: int = 0
    rejected: int = 0
    too_long: int = 0
    first: list[tuple[int, str]] = field(default_factory=list)

    def reject(self, records: Iterable[int], reasons: Iterable[str], count: int) -> None:
        """`count` malformed rows, of which at least the first `KEPT_REJECTS` are given."""
        self.rejected += count
        for found in zip(records, reasons, strict=True):
            insort(self.first, found)
        del self.first[KEPT_REJECTS:]


_Batch = tuple[pa.RecordBatch, NDArray[np.int64]]
"""Rows as read, and the number of each among the file's records, from 1."""


@dataclass(slots=True)
class Ingest:
    """Reads files under one policy and keeps a report on each, in `reports`, and what is to be said of how
    columns were read, in `notes`."""

    max_rejected_share: float = MAX_REJECTED_SHARE
    progress: Step = silent
    reports: list[FileReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(
        self, source: Traversable, form: TextFormat, columns: Sequence[Column], unique: str | None = None
    ) -> pa.Table:
        """The named columns of a delimited file, in file order.

        Args:
            unique: the column of which only the first row with each id is taken; the others are malformed.

        Raises:
            DataError: the file cannot be read, lacks a column, or too many of its rows are malformed.
        """
        log = _Log(source.name)
        try:
            header = Header(form.header, 0, 0) if form.header else header_of(source, form)
            with closing(PlainText(source, form, strict=True)) as stream:
                batches = self._text_batches(source, stream, form, header, columns, log)
                table = self._collect(batches, columns, unique, log)
            lines = lines_of_records(source, form, header.lines, [record for record, _ in log.first])
        except UNREADABLE as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            if "straddling" in reason:  # Arrow's word for a row that spans more than a block
                reason = f"a row of more than {BLOCK_BYTES:,} bytes: a quote may never be closed"
            undecoded = isinstance(error, UnicodeError) or "UTF8" in reason
            if undecoded and (refusal := first_line_not_utf8(source, form)):
                raise refusal from error
            raise DataError(f"{source.name}: not a readable {form.encoding} text table ({reason})") from error
        self._report(source.name, stream.bytes, stream.digest.hexdigest(), log, lines)
        return table

    def parquet(self, source: Traversable, columns: Sequence[Column], unique: str | None = None) -> pa.Table:
        """The same of a Parquet file."""
        log = _Log(source.name)
        try:
            with cast(BinaryIO, source.open("rb")) as stream:
                digest = hashlib.sha256()
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
                size = stream.tell()
                stream.seek(0)
                with pq.ParquetFile(stream) as file:
                    _require_columns(source.name, columns, file.schema_arrow.names)
                    table = self._collect(self._parquet_batches(file, columns, log), columns, unique, log)
        except UNREADABLE as error:
            raise DataError(f"{source.name}: not a readable Parquet file ({said(error)})") from error
        self._report(source.name, size, digest.hexdigest(), log, {r: r for r, _ in log.first})
        return table

    def joined(self, interactions: pa.Table, table: pa.Table, key: str, files: tuple[str, str]) -> Join:
        """How the interactions' ids meet a table's; a hint, where few do, goes to `notes`.

        Raises:
            DataError: none does.
        """
        join, hint = joined(interactions, table, key, files)
        if hint:
            self.notes.append(f"{files[1]}: most ids of {files[0]} have no row{hint}")
        return join

    def _text_batches(
        self,
        source: Traversable,
        stream: PlainText,
        form: TextFormat,
        header: Header,
        columns: Sequence[Column],
        log: _Log,
    ) -> Iterator[_Batch]:
        _require_columns(source.name, columns, header.names)
        if not stream.skip(header.size):
            return
        names = [name or f"{_RECORD}{at}" for at, name in enumerate(header.names)]
        # The last column too: a quote that is never closed hides the rest there, or breaks the row.
        last = [names[-1]] if form.quoted else []
        wanted = list(dict.fromkeys([*(column.source for column in columns), *last]))
        misshapen: list[int] = []
        unclosed = 0

        def skip(row: pa_csv.InvalidRow) -> str:
            nonlocal unclosed
            misshapen.append(row.number)
            if form.quoted and "\n" in row.text and row.text.count('"') % 2:
                unclosed = row.number
            why = f"{row.actual_columns} columns where {row.expected_columns} are expected"
            lines = row.text.strip("\r\n").count("\n") + 1  # a quote closed too late hides rows: count them
            log.reject([row.number], [why if lines == 1 else f"{why}, over {lines} lines"], count=lines)
            log.rows += lines
            return "skip"

        reader = pa_csv.open_csv(
            stream,
            # Serial: Arrow numbers malformed rows only when one thread parses.
            pa_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=names),
            pa_csv.ParseOptions(
                delimiter=UNIT_SEPARATOR if form.delimiter == "::" else form.delimiter,
                quote_char='"' if form.quoted else False,
                newlines_in_values=form.quoted,
                invalid_row_handler=skip,
            ),
            pa_csv.ConvertOptions(
                column_types=dict.fromkeys(wanted, pa.string()), include_columns=wanted, null_values=[]
            ),
        )
        total = _size(source)
        good = skipped = 0
        for batch in reader:
            # Row k of the batch is the file's record k plus the malformed ones that came before it.
            good_before = np.array(misshapen, np.int64) - np.arange(len(misshapen)) - 1 - skipped
            ordinal = np.arange(good, good + batch.num_rows)
            shift = skipped + np.searchsorted(good_before, ordinal, side="right")
            good += batch.num_rows
            passed = int(np.searchsorted(good_before, good, side="left"))
            del misshapen[:passed]
            skipped += passed
            log.rows += batch.num_rows
            self.progress(f"reading {source.name}", stream.bytes, total)
            records = ordinal + 1 + shift
            if last and batch.num_rows and "\n" in batch.column(last[0])[-1].as_py():
                unclosed = int(records[-1])
            yield batch, records
        if unclosed and stream.quotes % 2 and not stream.tail.rstrip(b"\r\n").endswith(b'"'):
            line = lines_of_records(source, form, header.lines, [unclosed]).get(unclosed, unclosed)
            raise DataError(f"{source.name}: the quote opened on line {line} is never closed: close it")

    def _parquet_batches(
        self, file: pq.ParquetFile, columns: Sequence[Column], log: _Log
    ) -> Iterator[_Batch]:
        wanted = list(dict.fromkeys(column.source for column in columns))
        for batch in file.iter_batches(PARQUET_BATCH_ROWS, columns=wanted):
            records = np.arange(log.rows, log.rows + batch.num_rows) + 1
            log.rows += batch.num_rows
            self.progress(f"reading {log.file}", log.rows, file.metadata.num_rows)
            yield plain_types(batch), records

    def _report(self, name: str, size: int, digest: str, log: _Log, lines: dict[int, int]) -> None:
        first = tuple(Reject(lines.get(record, record), why) for record, why in log.first)
        report = FileReport(name, size, digest, log.rows, log.rejected, first, log.too_long)
        report.require(self.max_rejected_share)
        if log.too_long:
            self.notes.append(
                f"{name}: {log.too_long:,} rows have an id of more than {MAX_ID_CHARS} characters: left out"
            )
        self.reports.append(report)

    def _collect(
        self, batches: Iterator[_Batch], columns: Sequence[Column], unique: str | None, log: _Log
    ) -> pa.Table:
        chunks = [_parse(batch, records, columns, log) for batch, records in batches]
        names = [column.name for column in columns]
        if not chunks:
            return pa.table({name: pa.array([], pa.string()) for name in names})
        table = pa.Table.from_batches(chunks).unify_dictionaries()
        for column in columns:
            if column.settle is not None:
                table = self._settled(table, column, log)
        if unique is not None:
            table = _first_of_each(table, unique, log)
        return table.select(names)

    def _settled(self, table: pa.Table, column: Column, log: _Log) -> pa.Table:
        """The table with what the whole of a column decides, without the rows that do not follow it."""
        assert column.settle is not None
        settled, note = column.settle(table[column.name])
        if note:
            self.notes.append(f"{log.file}, {column.source}: {note}")
        before = table[column.name]
        table = table.set_column(table.column_names.index(column.name), column.name, settled)
        if not settled.null_count:
            return table
        bad = np.asarray(settled.is_null())
        rows = pa.array(np.flatnonzero(bad)[:KEPT_REJECTS])
        reasons = [column.why(cell) for cell in before.take(rows).to_pylist()]
        log.reject(table[_RECORD].take(rows).to_pylist(), reasons, int(bad.sum()))
        return table.filter(pa.array(~bad))


UNREADABLE = (
    *(pa.ArrowException, OSError, UnicodeError, LookupError, EOFError, zipfile.BadZipFile, zlib.error),
    *(NotImplementedError, RuntimeError),  # a member of a zip that is encrypted, or packed in a rare way
)
"""What reading a damaged file raises."""


def said(error: Exception) -> str:
    """An error's text in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _parse(
    batch: pa.RecordBatch, records: NDArray[np.int64], columns: Sequence[Column], log: _Log
) -> pa.RecordBatch:
    """The batch with its columns parsed, without the rows in which a cell is malformed, and with the record
    numbers for what needs the whole table."""
    parsed = {column.name: _cells(batch, column, log) for column in columns}
    checked = [column for column in columns if column.parse]
    bad = np.zeros(batch.num_rows, bool)
    for column in checked:
        if parsed[column.name].null_count:
            bad |= np.asarray(parsed[column.name].is_null())
    parsed[_RECORD] = pa.array(records, _RECORD_TYPE)
    made = pa.RecordBatch.from_pydict(parsed)
    if not bad.any():
        return made
    rows = np.flatnonzero(bad)
    reasons = [
        next(c.why(batch.column(c.source)[row].as_py()) for c in checked if not parsed[c.name][row].is_valid)
        for row in rows[:KEPT_REJECTS].tolist()
    ]
    log.reject(records[rows[:KEPT_REJECTS]].tolist(), reasons, len(rows))
    log.too_long += _only_too_long(batch, parsed, checked)
    return made.filter(pa.array(~bad))


def _only_too_long(batch: pa.RecordBatch, parsed: dict[str, pa.Array], checked: Sequence[Column]) -> int:
    """How many rows have nothing against them but cells of too many characters."""
    over, bad = np.zeros((2, batch.num_rows), bool)
    for column in checked:
        missing = np.asarray(parsed[column.name].is_null())
        cells = batch.column(column.source)
        long = np.zeros_like(missing)
        if column.longest is not None and missing.any() and is_text(cells.type):
            length = pc.utf8_length(blank_to_null(cells)).fill_null(0)
            long = missing & np.asarray(pc.greater(length, column.longest))
        over |= long
        bad |= missing & ~long
    return int((over & ~bad).sum())


def _cells(batch: pa.RecordBatch, column: Column, log: _Log) -> pa.Array:
    cells = batch.column(column.source)
    if column.parse is None:
        return cells
    try:
        return column.parse(cells)
    except Unsuitable as error:
        first = next((repr(cell.as_py())[:40] for cell in cells if cell.is_valid), "nothing")
        raise DataError(f"{log.file}: column {column.source}: {error}; the first value is {first}") from error


def _first_of_each(table: pa.Table, unique: str, log: _Log) -> pa.Table:
    codes = table[unique].combine_chunks().dictionary_encode().indices
    _, first = np.unique(np.asarray(codes), return_index=True)
    again = np.setdiff1d(np.arange(table.num_rows), first)
    if not len(again):
        return table
    shown = table.take(again[:KEPT_REJECTS])
    reasons = [f"{unique} {cell!r} is there twice" for cell in shown[unique].to_pylist()]
    log.reject(shown[_RECORD].to_pylist(), reasons, len(again))
    return table.take(np.sort(first))


def _require_columns(name: str, columns: Sequence[Column], found: Sequence[str]) -> None:
    missing = [column.source for column in columns if column.source not in found]
    if not missing:
        return
    hint = ""
    if len(found) == 1 and (other := next((mark for mark in ";\t|" if mark in found[0]), None)):
        hint = f"; cells seem to be separated by {other!r}: save the file with commas"
    raise DataError(f"{name}: no column {', '.join(missing)}; found {', '.join(found) or 'none'}{hint}")


def _size(source: Traversable) -> int | None:
    if isinstance(source, Path):
        return source.stat().st_size
    if isinstance(source, zipfile.Path):
        return source.root.getinfo(source.at).file_size
    return None
