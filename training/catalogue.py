"""The items of a bundle, in one order that every array of the bundle shares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic_core import PydanticSerializationError, to_json

from features.hashing import hashed

CACHED_PROPERTIES = 20_000
"""Items whose properties are kept as Python objects, about 1 kB each: what is shown most is few items, and
reading ten from Arrow costs 0.1 ms, a third of an answer's HTTP time."""


CACHED_POSITIONS = 20_000
"""Ids whose items are remembered, about 0.1 kB each: the same few are asked for again and again, and a look
into the table makes arrays for each."""


@dataclass(frozen=True)
class Catalogue:
    """Row i of `table` and of `features` is item i everywhere in the bundle.

    Attributes:
        table: `item_id` (string), then the columns shown to clients and open to filters.
        features: float32 [n, f], the encoded item features in the schema's order.
        delisted: int32, ascending: items that histories hold and nobody is recommended any more.
    """

    table: pa.Table
    features: NDArray[np.float32]
    delisted: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def ids(self) -> Sequence[str]:
        """The items' ids, each made when it is asked for."""
        return Texts(self.table.column("item_id"))

    def index(self, item_id: str) -> int | None:
        """The item's index, or None where the catalogue does not hold it."""
        found = int(self.indices((item_id,))[0])
        return None if found < 0 else found

    def indices(self, item_ids: Iterable[str]) -> NDArray[np.int32]:
        """int32 [n] in the order given; -1 for an unknown id."""
        wanted, cached = list(item_ids), self._position_cache
        missing = [item_id for item_id in dict.fromkeys(wanted) if item_id not in cached]
        if missing:
            if len(cached) + len(missing) > CACHED_POSITIONS:
                cached.clear()
                missing = list(dict.fromkeys(wanted))
            cached.update(zip(missing, self._look_up(missing), strict=True))
        return np.array([cached[item_id] for item_id in wanted], np.int32)

    def _look_up(self, item_ids: Sequence[str]) -> list[int]:
        """Of distinct ids: an id's hash has an item or two, whose own ids tell."""
        found = [-1] * len(item_ids)
        for item, of in zip(*(each.tolist() for each in self.hashed(hashed(item_ids))), strict=True):
            if self.ids[item] == item_ids[of]:
                found[of] = item
        return found

    @cached_property
    def _position_cache(self) -> dict[str, int]:
        return {}

    def hashed(self, hashes: NDArray[np.uint32]) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
        """The items with these hashes (`features.hashing`), int32 [f], and which hash each has, intp [f].
        Hashes of no item are passed over; one of several items finds them all."""
        if not len(hashes):
            return np.empty(0, np.int32), np.empty(0, np.intp)
        ascending, order = self._hashes
        first, end = (np.searchsorted(ascending, hashes, side) for side in ("left", "right"))
        of = np.repeat(np.arange(len(hashes)), end - first)
        within = np.arange(len(of)) - np.repeat(np.cumsum(end - first) - (end - first), end - first)
        return order[first[of] + within], of

    @cached_property
    def _hashes(self) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
        """Hashes of all ids, ascending, and whose each is."""
        hashes = hashed(self.ids)
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        return hashes[order], order

    @cached_property
    def property_names(self) -> tuple[str, ...]:
        return tuple(name for name in self.table.column_names if name != "item_id")

    def properties(self, indices: Sequence[int] | NDArray[np.int32]) -> list[dict[str, object]]:
        """One JSON-ready dict an item, without empty values. Shared between calls: read, never changed."""
        cached = self._property_cache
        wanted = [int(index) for index in indices]
        missing = [index for index in wanted if index not in cached]
        if missing:
            if len(cached) + len(missing) > CACHED_PROPERTIES:
                cached.clear()
                missing = wanted
            cached.update(zip(missing, self._read_properties(missing), strict=True))
        return [cached[index] for index in wanted]

    def _read_properties(self, indices: Sequence[int]) -> list[dict[str, object]]:
        if not self.property_names:  # Arrow counts no rows where there are no columns
            return [{} for _ in indices]
        rows = self.table.select(self.property_names).take(pa.array(indices, pa.int32())).to_pylist()
        return [{name: value for name, value in row.items() if value is not None} for row in rows]

    @cached_property
    def _property_cache(self) -> dict[int, dict[str, object]]:
        return {}

    @cached_property
    def titles(self) -> Sequence[str]:
        """What a sentence calls each item: its title, or its id where it has none. Titles of another type
        than text (a film called 1917 alone in its column) are written as they read."""
        if "title" not in self.table.column_names:
            return self.ids
        return Texts(self.table.column("title"), self.ids)


class Texts(Sequence[str]):
    """A column's cells as text, made when asked for, so that there is no Python object an item."""

    def __init__(self, column: pa.ChunkedArray, otherwise: Sequence[str] = ()) -> None:
        """Args:
        otherwise: what stands for empty cells.
        """
        self._column, self._otherwise = (
            pa.concat_arrays(column.chunks or [pa.array([], column.type)]),
            otherwise,
        )

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[str]: ...
    def __getitem__(self, at: int | slice) -> str | Sequence[str]:
        if isinstance(at, slice):
            return [self[row] for row in range(*at.indices(len(self)))]
        cell = self._column[int(at)].as_py()
        return self._otherwise[at] if self._otherwise and (cell is None or cell == "") else str(cell)


def presentable(items: pa.Table) -> tuple[pa.Table, tuple[str, ...]]:
    """The items as an answer can show them, and the columns that were left out because JSON has no word for
    a value of theirs: bytes that are no text, a year beyond 9999, a type that Arrow cannot take rows of."""
    left_out = tuple(name for name in items.column_names if not _presentable(items[name]))
    return items.drop_columns(list(left_out)), left_out


def _presentable(column: pa.ChunkedArray) -> bool:
    try:
        to_json(column.take(pa.array([], pa.int32())).to_pylist())
        to_json(column.to_pylist())
    except (pa.ArrowException, PydanticSerializationError, ValueError, OverflowError):
        return False
    return True
