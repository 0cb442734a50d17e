"""What a suite found: figures with their spread, in tables, with the goals they answer. Values only; how they
are written is `report`'s."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Literal

from loadtests.bench.machine import Machine


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure, measured several times."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def over(self, other: Spread) -> Spread:
        """The ratio, round by round: both were measured in the same rounds."""
        return Spread(tuple(mine / theirs for mine, theirs in zip(self.values, other.values, strict=True)))

    def times(self, factor: float) -> Spread:
        """The same in another unit."""
        return Spread(tuple(factor * value for value in self.values))


Cell = Spread | float | int | str
"""A figure with its spread, a figure that has none, or words."""


@dataclass(frozen=True, slots=True)
class Table:
    """`rows[i]` has a cell for every column; units stand in the columns' names."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Goal:
    """A measure held against what it should reach. `limit` says what stands in the way where it does not."""

    measure: str
    found: Spread
    sense: Literal["at most", "at least"]
    reach: float
    limit: str = ""

    @property
    def reached(self) -> bool:
        if self.sense == "at most":
            return self.found.median <= self.reach
        return self.found.median >= self.reach


@dataclass(frozen=True, slots=True)
class Section:
    """One suite's part of the page.

    Attributes:
        text: what was measured and how, in a few sentences; Markdown.
        skipped: why nothing was measured, in a word or a sentence, where nothing was.
    """

    name: str
    title: str
    text: str
    tables: tuple[Table, ...] = ()
    goals: tuple[Goal, ...] = ()
    skipped: str = ""


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
