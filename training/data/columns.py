"""The columns taken from a file: how their cells are read, and what is said of those that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from features.limits import MAX_ID_CHARS, MAX_VALUE
from training.data.cells import Settled, numbers_of
from training.data.ids import parse_coded_ids, parse_ids, settle_ids
from training.data.times import parse_times, settle_times

Parser = Callable[[pa.Array], pa.Array]
Settler = Callable[[pa.ChunkedArray], Settled]

_SHOWN = 40
"""Characters of a malformed cell that are shown."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column to take from a file.

    Attributes:
        source: its name in the file; `name`: its name in the schema.
        parse: gives the typed column of a block, null where the cell is malformed; None takes it as it is.
        settle: of the whole parsed column, what only all of it decides.
        expected: what a good cell is, for the line that says why a row was rejected.
        longest: characters a cell may have; None: any number.
    """

    source: str
    name: str
    parse: Parser | None = None
    expected: str = ""
    settle: Settler | None = None
    longest: int | None = None

    def why(self, cell: object) -> str:
        text = "" if cell is None else str(cell).strip()
        if text == "":
            return f"{self.source} is missing"
        if self.longest is not None and len(text) > self.longest:
            return (
                f"{self.source} {text[:_SHOWN] + '…'!r} has {len(text):,} characters, "
                f"more than the {self.longest} allowed"
            )
        return f"{self.source} {str(cell)[:_SHOWN]!r} is not {self.expected}"


def identifier(source: str, name: str) -> Column:
    return Column(source, name, parse_ids, "an id", settle_ids, MAX_ID_CHARS)


def coded_identifier(source: str, name: str) -> Column:
    """As `identifier`, dictionary-encoded: an id repeated in millions of rows costs four bytes a row."""
    return Column(source, name, parse_coded_ids, "an id", settle_ids, MAX_ID_CHARS)


def value(source: str, name: str = "value") -> Column:
    return Column(source, name, parse_values, f"a number from {-MAX_VALUE:.0e} to {MAX_VALUE:.0e}")


def timestamp(source: str, name: str = "timestamp") -> Column:
    expected = (
        "a time between 1900 and 2200: ISO 8601, or a number in the unit of the others (seconds or below)"
    )
    return Column(source, name, parse_times, expected, settle_times)


def integer(source: str, name: str) -> Column:
    return Column(source, name, parse_integers, "a whole number")


def parse_values(column: pa.Array) -> pa.Array:
    """float32, at most `MAX_VALUE` either way."""
    numbers = numbers_of(column, pa.float64())
    return pc.if_else(pc.less_equal(pc.abs(numbers), MAX_VALUE), numbers, None).cast(pa.float32())


def parse_integers(column: pa.Array) -> pa.Array:
    """int32."""
    numbers = numbers_of(column, pa.float64())
    whole = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), 2.0**31))
    return pc.if_else(whole, numbers, None).cast(pa.int32())
