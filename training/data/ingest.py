"""Files → Arrow, block by block: malformed rows are set aside, counted and named, never guessed at.

Memory holds one block of text and the typed columns read so far, so a ratings file of any size costs about
its typed size. Does not belong here: what the columns of a particular layout mean.
"""

from __future__ import annotations

import csv
import hashlib
import zipfile
from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.progress import Step, silent
from training.data.columns import Column
from training.data.manifest import KEPT_REJECTS, MAX_REJECTED_SHARE, DataError, FileReport, Reject

BLOCK_BYTES = 4 << 20
"""Text parsed at a time. Larger blocks are no faster; smaller ones repeat the id dictionaries more often."""

PARQUET_BATCH_ROWS = 1 << 17
UNIT_SEPARATOR = "\x1f"
"""Stands for `::` while Arrow, which splits at one character only, reads a `.dat` file."""

_RECORD = "__record"


@dataclass(frozen=True, slots=True)
class TextFormat:
    """How a text file is cut into cells.

    Attributes:
        delimiter: one character, or `::`.
        header: column names where the file has no header line, else None.
        quoted: whether `"` encloses cells (CSV) or is a character like any other.
        encoding: of the text.
    """

    delimiter: str = ","
    header: tuple[str, ...] | None = None
    quoted: bool = True
    encoding: str = "utf-8"


@dataclass(slots=True)
class _Log:
    """The rows of one file so far."""

    rows: int = 0
    rejected: int = 0
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
    """Reads files under one policy and keeps a report on each, in `reports`."""

    max_rejected_share: float = MAX_REJECTED_SHARE
    progress: Step = silent
    reports: list[FileReport] = field(default_factory=list)

    def text(
        self, source: Traversable, form: TextFormat, columns: Sequence[Column], unique: str | None = None
    ) -> pa.Table:
        """The named columns of a delimited file, in file order.

        Args:
            unique: the column of which only the first row with each id is taken; the others are malformed.

        Raises:
            DataError: the file cannot be read, lacks a column, or too many of its rows are malformed.
        """
        log, digest = _Log(), hashlib.sha256()
        try:
            with closing(_Tap(source, form.delimiter, digest)) as stream:
                table = _collect(self._text_batches(source, stream, form, columns, log), columns, unique, log)
        except (pa.ArrowInvalid, UnicodeError, LookupError) as error:
            reason = str(error).splitlines()[0]
            if "straddling" in reason:  # Arrow's word for a row that spans more than a block
                reason = f"a row of more than {BLOCK_BYTES:,} bytes: a quote may never be closed"
            raise DataError(f"{source.name}: not a readable {form.encoding} text table ({reason})") from error
        lines = _lines_of_records(source, [record for record, _ in log.first], form.quoted)
        self._report(source.name, stream.bytes, digest.hexdigest(), log, lines)
        return table

    def parquet(self, path: Path, columns: Sequence[Column], unique: str | None = None) -> pa.Table:
        """The same of a Parquet file."""
        log = _Log()
        try:
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            with pq.ParquetFile(path) as file:
                _require_columns(path.name, columns, file.schema_arrow.names)
                table = _collect(self._parquet_batches(path, file, columns, log), columns, unique, log)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{path.name}: not a readable Parquet file ({error})") from error
        self._report(path.name, path.stat().st_size, digest, log, {r: r for r, _ in log.first})
        return table

    def _text_batches(
        self, source: Traversable, stream: _Tap, form: TextFormat, columns: Sequence[Column], log: _Log
    ) -> Iterator[_Batch]:
        names = form.header or header_of(source, form)
        _require_columns(source.name, columns, names)
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
            pa_csv.ReadOptions(
                use_threads=False, block_size=BLOCK_BYTES, column_names=form.header, encoding=form.encoding
            ),
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
        header_lines, total = 0 if form.header else 1, _size(source)
        good = skipped = 0
        for batch in reader:
            # Row k of the batch is the file's record k plus the malformed ones that came before it.
            good_before = (
                np.array(misshapen, np.int64) - np.arange(len(misshapen)) - 1 - header_lines - skipped
            )
            ordinal = np.arange(good, good + batch.num_rows)
            shift = skipped + np.searchsorted(good_before, ordinal, side="right")
            good += batch.num_rows
            passed = int(np.searchsorted(good_before, good, side="left"))
            del misshapen[:passed]
            skipped += passed
            log.rows += batch.num_rows
            self.progress(f"reading {source.name}", stream.bytes, total)
            records = ordinal + 1 + header_lines + shift
            if last and batch.num_rows and "\n" in batch.column(last[0])[-1].as_py():
                unclosed = int(records[-1])
            yield batch, records
        if unclosed and stream.quotes % 2 and not stream.tail.rstrip(b"\r\n").endswith(b'"'):
            line = _lines_of_records(source, [unclosed], quoted=True).get(unclosed, unclosed)
            raise DataError(f"{source.name}: the quote opened on line {line} is never closed: close it")

    def _parquet_batches(
        self, path: Path, file: pq.ParquetFile, columns: Sequence[Column], log: _Log
    ) -> Iterator[_Batch]:
        wanted = list(dict.fromkeys(column.source for column in columns))
        for batch in file.iter_batches(PARQUET_BATCH_ROWS, columns=wanted):
            records = np.arange(log.rows, log.rows + batch.num_rows) + 1
            log.rows += batch.num_rows
            self.progress(f"reading {path.name}", log.rows, file.metadata.num_rows)
            yield batch, records

    def _report(self, name: str, size: int, digest: str, log: _Log, lines: dict[int, int]) -> None:
        first = tuple(Reject(lines[record], why) for record, why in log.first)
        report = FileReport(name, size, digest, log.rows, log.rejected, first)
        report.require(self.max_rejected_share)
        self.reports.append(report)


def header_of(source: Traversable, form: TextFormat) -> tuple[str, ...]:
    """The column names in the first line."""
    with cast(BinaryIO, source.open("rb")) as stream:
        line = stream.readline().decode(form.encoding).removeprefix("\ufeff")
    cells = csv.reader([line], delimiter=form.delimiter) if form.quoted else [line.split(form.delimiter)]
    names = [name.strip("\r\n") for name in next(iter(cells), [])]
    if len(set(names)) < len(names):
        raise DataError(f"{source.name}: two columns have the same name in {', '.join(names)}")
    return tuple(names)


def encoding_of(source: Traversable) -> str:
    """utf-8, or latin-1 where the file is no valid utf-8: GroupLens has used both. Reads the file."""
    try:
        source.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


class _Tap:
    """A binary file that hashes what passes, counts its bytes and quotes, and makes `::` one character."""

    def __init__(self, source: Traversable, delimiter: str, digest: hashlib._Hash) -> None:
        self._stream = cast(BinaryIO, source.open("rb"))
        self._double = delimiter == "::"
        self._held = b""
        self._digest = digest
        self.bytes = 0
        self.quotes = 0
        self.tail = b""
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, and none only at the end of the file."""
        raw = self._stream.read(max(1, size - len(self._held)) if size > 0 else size)
        self._digest.update(raw)
        self.bytes += len(raw)
        self.quotes += raw.count(b'"')
        self.tail = (self.tail + raw[-8:])[-8:]
        if not self._double:
            return raw
        text = self._held + raw
        # A separator may lie across two reads: colons at the end wait for what follows.
        end = len(text.rstrip(b":")) if raw else len(text)
        self._held = text[end:]
        made = text[:end].replace(b"::", UNIT_SEPARATOR.encode())
        return made if made or not raw else self.read(size)

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True
        self._stream.close()


def _collect(batches: Iterator[_Batch], columns: Sequence[Column], unique: str | None, log: _Log) -> pa.Table:
    chunks = [_parse(batch, records, columns, log, unique is not None) for batch, records in batches]
    names = [column.name for column in columns]
    if not chunks:
        return pa.table({name: pa.array([], pa.string()) for name in names})
    table = pa.Table.from_batches(chunks).unify_dictionaries()
    if unique is not None:
        table = _first_of_each(table, unique, log)
    return table.select(names)


def _parse(
    batch: pa.RecordBatch, records: NDArray[np.int64], columns: Sequence[Column], log: _Log, numbered: bool
) -> pa.RecordBatch:
    """The batch with its columns parsed, without the rows in which a cell is malformed.

    `numbered` adds the record numbers, for the checks that need the whole table.
    """
    parsed = {
        column.name: column.parse(batch.column(column.source))
        if column.parse
        else batch.column(column.source)
        for column in columns
    }
    checked = [column for column in columns if column.parse]
    bad = np.zeros(batch.num_rows, bool)
    for column in checked:
        if parsed[column.name].null_count:
            bad |= np.asarray(parsed[column.name].is_null())
    if numbered:
        parsed[_RECORD] = pa.array(records)
    made = pa.RecordBatch.from_pydict(parsed)
    if not bad.any():
        return made
    rows = np.flatnonzero(bad)
    reasons = [
        next(c.why(batch.column(c.source)[row].as_py()) for c in checked if not parsed[c.name][row].is_valid)
        for row in rows[:KEPT_REJECTS].tolist()
    ]
    log.reject(records[rows[:KEPT_REJECTS]].tolist(), reasons, len(rows))
    return made.filter(pa.array(~bad))


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
    if missing:
        raise DataError(f"{name}: no column {', '.join(missing)}; found {', '.join(found) or 'none'}")


def _lines_of_records(source: Traversable, records: Sequence[int], quoted: bool) -> dict[int, int]:
    """Record number → line: they differ by empty lines and by line breaks inside quotes."""
    lines: dict[int, int] = {}
    if not records:
        return lines
    wanted, record, inside = set(records), 0, False
    with cast(BinaryIO, source.open("rb")) as stream:
        for line, raw in enumerate(stream, start=1):
            if not inside and raw.strip(b"\r\n"):
                record += 1
                if record in wanted:
                    lines[record] = line
                    if len(lines) == len(wanted):
                        break
            if quoted and raw.count(b'"') % 2:
                inside = not inside
    return lines


def _size(source: Traversable) -> int | None:
    if isinstance(source, Path):
        return source.stat().st_size
    if isinstance(source, zipfile.Path):
        return source.root.getinfo(source.at).file_size
    return None
