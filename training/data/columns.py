"""Raw columns, text from CSV or typed from Parquet, made into the schema's types. A null marks a bad cell.

Whole columns at a time: the plain case is one Arrow cast, and only a block that fails it is looked at value
by value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from training.data.manifest import DataError

EARLIEST, LATEST = -2_208_988_800, 7_258_118_400
"""Unix seconds of 1900 and 2200. Times outside are a wrong unit (milliseconds), not events."""

Parser = Callable[[pa.Array], pa.Array]


@dataclass(frozen=True, slots=True)
class Column:
    """One column to take from a file.

    Attributes:
        source: its name in the file; `name`: its name in the schema.
        parse: gives the typed column, null where the cell is malformed; None takes it as it is.
        expected: what a good cell is, for the line that says why a row was rejected.
    """

    source: str
    name: str
    parse: Parser | None = None
    expected: str = ""

    def why(self, cell: object) -> str:
        if cell is None or str(cell).strip() == "":
            return f"{self.source} is missing"
        return f"{self.source} {str(cell)[:40]!r} is not {self.expected}"


def identifier(source: str, name: str) -> Column:
    return Column(source, name, parse_ids, "an id")


def coded_identifier(source: str, name: str) -> Column:
    """As `identifier`, dictionary-encoded: an id repeated in millions of rows costs four bytes a row."""
    return Column(source, name, lambda column: parse_ids(column).dictionary_encode(), "an id")


def value(source: str, name: str = "value") -> Column:
    return Column(source, name, parse_values, "a finite number")


def timestamp(source: str, name: str = "timestamp") -> Column:
    return Column(source, name, parse_timestamps, "unix seconds or an ISO 8601 time between 1900 and 2200")


def integer(source: str, name: str) -> Column:
    return Column(source, name, parse_integers, "a whole number")


def parse_ids(column: pa.Array) -> pa.Array:
    """string. Integers become their digits; text loses the spaces round it; empty text is missing."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):  # pandas stores integer ids with gaps as floats
        whole = pc.and_kleene(pc.is_finite(column), pc.equal(pc.floor(column), column))
        column = pc.if_else(whole, column, None).cast(pa.int64())
    if pa.types.is_integer(column.type):
        return column.cast(pa.string())
    if not _is_text(column.type):
        raise DataError(f"ids of type {column.type} are not supported: use text or integers")
    return blank_to_null(column)


def parse_values(column: pa.Array) -> pa.Array:
    """float32, finite."""
    numbers = _numbers(column, pa.float32())
    return pc.if_else(pc.is_finite(numbers), numbers, None)


def parse_integers(column: pa.Array) -> pa.Array:
    """int32."""
    numbers = _numbers(column, pa.float64())
    whole = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), 2.0**31))
    return pc.if_else(whole, numbers, None).cast(pa.int32())


def parse_timestamps(column: pa.Array) -> pa.Array:
    """int64 unix seconds. Times without a zone are UTC; fractions of a second are dropped."""
    kind = column.type
    if _is_text(kind):
        seconds = _seconds_of_text(column)
    elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        seconds = column.cast(pa.timestamp("s", getattr(kind, "tz", None)), safe=False).cast(pa.int64())
    else:
        seconds = _whole_seconds(_numbers(column, pa.float64()))
    sane = pc.and_(pc.greater_equal(seconds, EARLIEST), pc.less_equal(seconds, LATEST))
    return pc.if_else(sane, seconds, None)


def infer_type(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A text column as whole numbers, numbers, booleans or times, the first that all its values are.

    Empty text is null. Digits that start with a zero stay text: they are codes, not amounts.
    """
    column = pc.if_else(pc.equal(column, ""), None, column)
    if column.null_count == len(column) or pc.any(pc.match_substring_regex(column, r"^[+-]?0\d")).as_py():
        return column
    for kind in (pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("us")):
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            continue
    return column


def split_lists(column: pa.ChunkedArray, separator: str = "|") -> pa.ChunkedArray:
    """list<string>: the parts between separators, without empty ones."""
    parts = [
        None if cell is None else [part.strip() for part in cell.split(separator) if part.strip()]
        for cell in column.to_pylist()
    ]
    return pa.chunked_array([pa.array(parts, pa.list_(pa.string()))])


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def blank_to_null(column: pa.Array) -> pa.Array:
    """Text without the spaces round it; null where nothing is left."""
    trimmed = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed)


def _numbers(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Numbers of `kind`, null where the cell is none."""
    if not _is_text(column.type):
        try:
            return column.cast(kind, safe=False)
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            raise DataError(f"a column of type {column.type} where numbers are expected") from error
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        numbers = pd.to_numeric(column.to_pandas(), errors="coerce").to_numpy(np.float64)
        return pa.array(numbers, mask=np.isnan(numbers)).cast(kind, safe=False)


def _whole_seconds(numbers: pa.Array) -> pa.Array:
    sane = pc.and_(pc.is_finite(numbers), pc.less_equal(pc.abs(numbers), float(LATEST)))
    return pc.floor(pc.if_else(sane, numbers, None)).cast(pa.int64())


def _seconds_of_text(column: pa.Array) -> pa.Array:
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        numeric = _whole_seconds(_numbers(column, pa.float64()))
        times = pd.to_datetime(column.to_pandas(), errors="coerce", utc=True, format="ISO8601")
        nanoseconds = times.astype("datetime64[ns, UTC]").astype("int64").to_numpy()
        iso = pa.array(nanoseconds // 1_000_000_000, pa.int64(), mask=times.isna().to_numpy())
        return pc.coalesce(numeric, iso)
