"""Cells of raw columns, text from CSV or typed from Parquet: what is missing, what is a number.

Whole columns at a time: the plain case is one Arrow cast, and only a block that fails it is looked at value
by value.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

MISSING = pa.array(
    [
        *("-", "--", "?", "NA", "N/A", "n/a", "na", "#N/A", "<NA>"),
        *("nan", "NaN", "NAN", "null", "NULL", "Null", "None", "none", "nil"),
    ]
)
"""Cells with which programs write that there is no value. They count as such in a column whose other cells
are numbers; among words they may be words (NA is Namibia)."""


class Unsuitable(Exception):
    """A column whose type cannot hold what is looked for; the message says what to do."""


class Settled(NamedTuple):
    """A whole column after the decisions that need all of it, null where a cell does not follow them, and
    what is to be said of it ("" where nothing was decided)."""

    column: pa.ChunkedArray
    note: str = ""


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def plain_types(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with columns in another layout of a plain type as that type: views, which Polars and others
    write, and extensions such as UUIDs. Most of Arrow's functions do not take them."""
    return pa.RecordBatch.from_pydict({name: _plain(batch.column(name)) for name in batch.schema.names})


def _plain(column: pa.Array) -> pa.Array:
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(column.storage)
    if pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    if pa.types.is_binary_view(kind):
        return column.cast(pa.large_binary())
    return column


def blank_to_null(column: pa.Array) -> pa.Array:
    """Text without the spaces round it; null where nothing is left."""
    trimmed = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed)


def numbers_of(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Numbers of `kind`, null where the cell is none.

    Raises:
        Unsuitable: the column's type holds no numbers.
    """
    if not is_text(column.type):
        if pa.types.is_dictionary(column.type):
            return numbers_of(column.cast(column.type.value_type), kind)
        try:
            return column.cast(kind, safe=False)
        except pa.ArrowException:
            raise Unsuitable(f"values of type {column.type} where numbers are expected") from None
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        numbers = pd.to_numeric(column.to_pandas(), errors="coerce").to_numpy(np.float64)
        return pa.array(numbers, mask=np.isnan(numbers)).cast(kind, safe=False)


def infer_type(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A text column as whole numbers, numbers, booleans or times, the first that all its values are.

    Blank cells are null, and so are those of `MISSING` where the others are of such a type; numbers that are
    not finite are. Digits that start with a zero stay text: they are codes, not amounts.
    """
    trimmed = blank_to_null(column)
    given = pc.if_else(pc.is_in(trimmed, value_set=MISSING), None, trimmed)
    code = given.null_count < len(given) and pc.any(pc.match_substring_regex(given, r"^[+-]?0\d")).as_py()
    if given.null_count == len(given):
        return given
    for kind in () if code else (pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("us")):
        try:
            typed = given.cast(kind)
        except pa.ArrowInvalid:
            continue
        return pc.if_else(pc.is_finite(typed), typed, None) if pa.types.is_floating(kind) else typed
    return pc.if_else(pc.equal(column, ""), None, column)


def split_lists(column: pa.ChunkedArray, separator: str = "|") -> pa.ChunkedArray:
    """list<string>: the parts between separators, without empty ones."""
    parts = [
        None if cell is None else [part.strip() for part in cell.split(separator) if part.strip()]
        for cell in column.to_pylist()
    ]
    return pa.chunked_array([pa.array(parts, pa.list_(pa.string()))])
