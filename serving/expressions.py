"""Typed filter expressions, compiled against a catalogue's properties into a mask of its items.

Does not belong here: who is asking, and what their past rules out (`serving.filters`).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serving.errors import InvalidFilter
from serving.types import FilterExpression, Float64, Int32, Mask
from training.catalogue import Catalogue

CACHED_MASKS = 64
"""Masks kept, one byte an item each: 64 MB for a million items. Browsing repeats few filters (a genre, a
decade); a miss costs what compiling does, 5 to 20 ms for a million items."""

MAX_VALUES = 1_000
"""Values one list operand may hold; bounds what one request can cost and a cached key can weigh."""

Operand = bool | float | str | tuple[float, ...] | tuple[str, ...]
Reader = Callable[[object], Operand]
"""Checks an operand and gives its hashable form. Raises ValueError saying what is allowed."""


def _number(raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise ValueError("must be a number")
    try:
        value = float(raw)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _string(raw: object) -> str:
    if isinstance(raw, str):
        with suppress(UnicodeEncodeError):  # half a surrogate pair is JSON, but not text
            raw.encode()
            return raw
    raise ValueError("must be a string")


def _boolean(raw: object) -> bool:
    if not isinstance(raw, bool):
        raise ValueError("must be true or false")
    return raw


def _values(raw: object, of: str) -> list[object]:
    if not isinstance(raw, list | tuple) or not 0 < len(raw) <= MAX_VALUES:
        raise ValueError(f"must be a list of 1 to {MAX_VALUES:,} {of}")
    return list(raw)


def _numbers(raw: object) -> tuple[float, ...]:
    try:
        return tuple(sorted({_number(value) for value in _values(raw, "numbers")}))
    except ValueError:
        raise ValueError(f"must be a list of 1 to {MAX_VALUES:,} finite numbers") from None


def _strings(raw: object) -> tuple[str, ...]:
    try:
        return tuple(sorted({_string(value) for value in _values(raw, "strings")}))
    except ValueError:
        raise ValueError(f"must be a list of 1 to {MAX_VALUES:,} strings") from None


class _Column(Protocol):
    """A column ready to be compared with the operands its readers let through."""

    @property
    def readers(self) -> Mapping[str, Reader]: ...

    def match(self, name: str, operand: Any) -> Mask: ...


_COMPARE: Mapping[str, Callable[[Float64, float], Mask]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


@dataclass(frozen=True, slots=True)
class _Numbers:
    """float64 [n], NaN where there is no value: IEEE comparison then gives nulls the meaning they should
    have (False for all but `ne`). Integers beyond 2^53 are compared rounded."""

    values: Float64
    readers: Mapping[str, Reader]

    def match(self, name: str, operand: Any) -> Mask:
        if name == "exists":
            return ~np.isnan(self.values) if operand else np.isnan(self.values)
        if name == "in":
            return np.isin(self.values, operand)
        return _COMPARE[name](self.values, operand)


@dataclass(frozen=True, slots=True)
class _Labels:
    """The distinct (row, label) pairs of a string or list-of-strings column of `length` rows.

    Attributes:
        vocabulary: the distinct labels, an Arrow array.
        row, code: int32 [m]; row row[j] carries the label vocabulary[code[j]].
    """

    length: int
    vocabulary: pa.Array
    row: Int32
    code: Int32
    readers: Mapping[str, Reader]

    def match(self, name: str, operand: Any) -> Mask:
        match name:
            case "exists":
                return self._marked(self.row) if operand else ~self._marked(self.row)
            case "eq" | "any" | "in":
                return self._marked(self._carriers(operand))
            case "ne" | "none":
                return ~self._marked(self._carriers(operand))
            case _:  # all: as many of the distinct values as were asked for
                found = np.bincount(self._carriers(operand), minlength=self.length)
                return np.equal(found, len(operand))

    def _carriers(self, operand: str | tuple[str, ...]) -> Int32:
        """The row of every pair whose label is among the operand's."""
        wanted = pa.array([operand] if isinstance(operand, str) else operand, self.vocabulary.type)
        hit: Mask = pc.is_in(self.vocabulary, value_set=wanted).to_numpy(zero_copy_only=False)
        return self.row[hit[self.code]]

    def _marked(self, rows: Int32) -> Mask:
        mask = np.zeros(self.length, np.bool_)
        mask[rows] = True
        return mask


_EXISTS: Mapping[str, Reader] = {"exists": _boolean}
_LABELS: Mapping[str, Reader] = {"any": _strings, "all": _strings, "none": _strings, **_EXISTS}
_STRING: Mapping[str, Reader] = {"eq": _string, "ne": _string, "in": _strings, **_LABELS}
_NUMBER: Mapping[str, Reader] = {**dict.fromkeys(_COMPARE, _number), "in": _numbers, **_EXISTS}
_BOOLEAN: Mapping[str, Reader] = {"eq": _boolean, "ne": _boolean, **_EXISTS}


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _labels(length: int, row: NDArray[Any], values: pa.Array, readers: Mapping[str, Reader]) -> _Labels:
    """From the row of each value and the values, both [m]; null values are no labels."""
    encoded = values.cast(pa.large_string()).dictionary_encode()
    valid = encoded.is_valid().to_numpy(zero_copy_only=False)
    code = encoded.indices.drop_null().to_numpy().astype(np.int64)
    width = len(encoded.dictionary)
    pairs = np.sort(row[valid].astype(np.int64) * width + code)
    distinct = pairs[np.diff(pairs, prepend=-1) > 0]  # np.unique hashes, which took 50 times as long
    rows, codes = np.divmod(distinct, width)
    return _Labels(length, encoded.dictionary, rows.astype(np.int32), codes.astype(np.int32), readers)


def _column(column: pa.ChunkedArray) -> _Column | None:
    """The column ready for filters, or None where its type has no operators."""
    kind = column.type
    if pa.types.is_boolean(kind):
        return _Numbers(column.cast(pa.int8()).cast(pa.float64()).to_numpy(), _BOOLEAN)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _Numbers(column.cast(pa.float64(), safe=False).to_numpy(), _NUMBER)
    if _is_text(kind):
        return _labels(len(column), np.arange(len(column)), column.combine_chunks(), _STRING)
    if (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _is_text(kind.value_type):
        lists = column.combine_chunks()
        row = pc.list_parent_indices(lists).to_numpy()
        return _labels(len(column), row, pc.list_flatten(lists), _LABELS)
    return None


@dataclass(frozen=True, slots=True)
class _Condition:
    field: str
    operator: str
    operand: Operand


class CatalogueFilter:
    """Compiles filter expressions against a catalogue's properties.

    An expression maps field → operator → operand; all fields and all operators of a field must hold.

    | values of the field | operators |
    |---|---|
    | number | `eq ne gt gte lt lte` (number), `in` (numbers) |
    | string | `eq ne` (string), `in` (strings), and those of a list, as a list of one |
    | list of strings | `any all none` (strings) |
    | boolean | `eq ne` (boolean) |
    | each of them | `exists` (boolean) |

    Strings are compared exactly, case included. A missing value (null, NaN, a list without a string) matches
    only `exists: false`, `ne` and `none`.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        table = catalogue.table
        named = ((name, _column(table.column(name).slice(0, 0))) for name in sorted(catalogue.property_names))
        self._readers = {name: column.readers for name, column in named if column is not None}
        self._column = lru_cache(None)(lambda name: _column(table.column(name)))  # when first compared with
        self._listed = np.ones(len(catalogue), np.bool_)
        self._listed[catalogue.delisted] = False
        self._compiled = lru_cache(CACHED_MASKS)(self._compile)

    def mask(self, expression: FilterExpression | None) -> Mask:
        """bool [n_items], read-only: True where the item matches. None and `{}` match every item that is not
        delisted; a delisted one matches nothing.

        Raises:
            InvalidFilter: an unknown field or operator, or an operand of the wrong type.
        """
        conditions = self._read(expression or {})
        return self._compiled(tuple(sorted(conditions, key=lambda c: (c.field, c.operator))))

    def _read(self, expression: FilterExpression) -> Iterable[_Condition]:
        for field, condition in expression.items():
            readers = self._readers.get(field)
            if readers is None:
                raise InvalidFilter(field, f"no such filter; fields are {', '.join(self._readers) or 'none'}")
            operators = ", ".join(readers)
            if not isinstance(condition, Mapping) or not condition:
                raise InvalidFilter(field, f"must be an object with one or more of {operators}")
            for name, raw in condition.items():
                if name not in readers:
                    raise InvalidFilter(field, f"no operator {name!r}; operators are {operators}")
                try:
                    yield _Condition(field, name, readers[name](raw))
                except ValueError as error:
                    raise InvalidFilter(field, f"{name} {error}") from None

    def _compile(self, conditions: tuple[_Condition, ...]) -> Mask:
        mask = self._listed.copy()
        for condition in conditions:
            column = self._column(condition.field)
            assert column is not None  # `_read` has looked
            mask &= column.match(condition.operator, condition.operand)
        mask.setflags(write=False)
        return mask
