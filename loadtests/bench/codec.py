"""Sections as JSON and back, with what is known of their run.

Does not belong here: files, and how a section looks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from loadtests.bench.machine import Machine
from loadtests.bench.result import Cell, Goal, Plot, Section, Spread, Table

FORMAT = 1
"""Raised when a reader of the previous format could misread a file."""


class Unreadable(Exception):
    """Not results of this format."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One section and how it came about.

    Attributes:
        date: UTC, ISO 8601.
        command: that measures it again.
        quick: measured in the short form, whose figures mean little.
        seconds: that the suite took.
    """

    section: Section
    date: str
    command: str
    quick: bool
    seconds: float
    machine: Machine


def encode(entry: Entry) -> dict[str, Any]:
    """Raises ValueError for a figure that is not finite: JSON has no word for it, and no reader a use."""
    encoded = asdict(entry)
    section = encoded["section"]
    for table, source in zip(section["tables"], entry.section.tables, strict=True):
        table["rows"] = [[_encode_cell(cell) for cell in row] for row in source.rows]
    plain: dict[str, Any] = _plain(encoded, entry.section.name)
    return plain


def decode(encoded: Mapping[str, Any]) -> Entry:
    """Raises Unreadable."""
    try:
        return Entry(
            **{**encoded, "section": _section(encoded["section"]), "machine": Machine(**encoded["machine"])}
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"not a section of format {FORMAT}: {error}") from error


def _section(encoded: Mapping[str, Any]) -> Section:
    return Section(
        **{
            **encoded,
            "tables": tuple(_table(table) for table in encoded["tables"]),
            "goals": tuple(Goal(**{**goal, "found": _spread(goal["found"])}) for goal in encoded["goals"]),
            "plots": tuple(Plot(**{**plot, "lines": _lines(plot["lines"])}) for plot in encoded["plots"]),
        }
    )


def _table(encoded: Mapping[str, Any]) -> Table:
    rows = tuple(tuple(_decode_cell(cell) for cell in row) for row in encoded["rows"])
    return Table(encoded["title"], tuple(encoded["columns"]), rows)


def _lines(encoded: Mapping[str, Any]) -> dict[str, tuple[tuple[float, float], ...]]:
    return {name: tuple((x, y) for x, y in points) for name, points in encoded.items()}


def _spread(encoded: Mapping[str, Any]) -> Spread:
    return Spread(tuple(encoded["values"]))


def _encode_cell(cell: Cell) -> Any:
    return asdict(cell) if isinstance(cell, Spread) else cell


def _decode_cell(cell: Any) -> Cell:
    decoded: Cell = _spread(cell) if isinstance(cell, Mapping) else cell
    return decoded


def _plain(value: Any, where: str) -> Any:
    """Lists for tuples, and only finite numbers."""
    if isinstance(value, Mapping):
        return {name: _plain(part, f"{where}.{name}") for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, f"{where}[{at}]") for at, part in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}, not a figure")
    return value
