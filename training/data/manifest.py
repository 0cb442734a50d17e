"""What `dataset.json` says about an ingested data set, and what a refused one raises.

Imports nothing heavy: deciding that the data is already there must not wait for Arrow to import.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from features.limits import too_many_items
from features.remedy import made_by

FILE_NAME = "dataset.json"
FORMAT = 2
"""Raised when the tables' meaning changes, so that older data is ingested anew."""

TABLE_NAMES = ("interactions", "items", "users")

MAX_REJECTED_SHARE = 0.01
"""Share of a file's rows that may be malformed before the file is refused. Real exports have a few broken
rows; one in a hundred is more likely a wrong delimiter or column, which would quietly bias a model."""

LOW_JOIN = 0.5
"""Share of the interactions' ids with a row below which a table is warned of: it is more likely that ids are
spelled in two ways than that most are unknown."""

KEPT_REJECTS = 20
"""Malformed rows of a file that are named one by one; the others are counted. Enough to see a pattern."""


def utf8(text: str) -> str:
    """The text as UTF-8 can hold it: Linux allows names that it cannot, whose bytes become `\\udc..`."""
    return text.encode("utf-8", "backslashreplace").decode()


class DataError(Exception):
    """Data that cannot be had or is refused. The message is one line that says what to do next, whatever
    cell or name it quotes."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


@dataclass(frozen=True, slots=True)
class Reject:
    """One malformed row. `line` counts from 1 in the file; in a Parquet file it is the row's number."""

    line: int
    why: str


@dataclass(frozen=True, slots=True)
class FileReport:
    """What one input file gave.

    Attributes:
        file: its name. `bytes` and `sha256` are of the file as it was read.
        rows: data rows seen, the malformed ones included.
        rejected: how many were malformed. `first` names the first `KEPT_REJECTS` of them.
        too_long: how many of these only have an id of more characters than are allowed. They say nothing
            against the other rows, so they do not count for the share.
    """

    file: str
    bytes: int
    sha256: str
    rows: int
    rejected: int
    first: tuple[Reject, ...]
    too_long: int = 0

    @property
    def rejected_share(self) -> float:
        return (self.rejected - self.too_long) / max(self.rows, 1)

    def require(self, max_rejected_share: float) -> None:
        """Raises `DataError` where more rows are malformed than allowed, naming the first."""
        if self.rejected_share <= max_rejected_share:
            return
        first = self.first[0]
        unit = "row" if self.file.endswith(".parquet") else "line"
        bad = self.rejected - self.too_long
        raise DataError(
            f"{self.file}: {bad:,} of {self.rows:,} rows ({self.rejected_share:.1%}) are "
            f"malformed, more than the {max_rejected_share:.1%} allowed; the first is {unit} {first.line}: "
            f"{first.why}. Fix the file or raise --max-rejected-share."
        )


@dataclass(frozen=True, slots=True)
class About:
    """Where a data set comes from and what may be done with it."""

    name: str
    source: str
    licence: str
    inputs: tuple[FileReport, ...] = ()


@dataclass(frozen=True, slots=True)
class Join:
    """How the ids of interactions meet those of a table.

    Attributes:
        file: of the table. key: `item_id` or `user_id`.
        ids: distinct ids in interactions. known: how many of them have a row in the table.
        rows: of the table. `known` of them have an interaction.
    """

    file: str
    key: str
    ids: int
    known: int
    rows: int

    @property
    def share(self) -> float:
        """Share of the interactions' ids that have a row, 0 to 1."""
        return self.known / max(self.ids, 1)


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found in a data set while it was read.

    Attributes:
        timed: whether the source gave times; else the order of its rows is the time.
        duplicates: events dropped because they were there before, with the same user, item, value and time.
        pairs: distinct pairs of user and item among the events kept.
        repeats: share of the events kept, 0 to 1, whose pair of user and item was there before.
        listed_items: how many of the first rows of items the source's own table had, the others being added
            for ids of interactions; None where the source had no items table.
        joins: how the ids of interactions meet those of items and users, where there are such tables.
        notes: what was decided while reading and is not plain from the files.
    """

    timed: bool = True
    duplicates: int = 0
    pairs: int = 0
    repeats: float = 0.0
    listed_items: int | None = None
    joins: tuple[Join, ...] = ()
    notes: tuple[str, ...] = ()


PLAIN = Facts()
"""Of a source with times of which nothing else is known yet."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """`dataset.json`.

    Attributes:
        request: what was asked for, so that asking again finds it done. JSON values only.
        counts: rows of each table.
        window: unix seconds of the first and the last interaction.
        bytes: size of each Parquet file, by which a half-copied folder is found out.
        facts: what was found while reading.
    """

    about: About
    request: Mapping[str, object]
    counts: Mapping[str, int]
    window: tuple[int, int]
    bytes: Mapping[str, int]
    facts: Facts

    @property
    def density(self) -> float:
        """Share of all pairs of user and item, 0 to 1, that have met."""
        return self.facts.pairs / max(self.counts["users"] * self.counts["items"], 1)

    def require_trainable(self) -> None:
        """Raises `DataError` where training would refuse the data set, before anything long begins."""
        if why := too_many_items(self.counts["items"]):
            raise DataError(f"{self.about.name}: {why}")

    @property
    def rejected(self) -> int:
        return sum(report.rejected for report in self.about.inputs)

    def to_json(self) -> str:
        """JSON that UTF-8 can hold: bytes of a path that is no text are written as JSON's own escapes."""
        return utf8(json.dumps({"format": FORMAT, **asdict(self)}, indent=2, ensure_ascii=False) + "\n")

    @staticmethod
    def read(directory: Path) -> Manifest:
        """The manifest of a complete data set.

        Raises:
            DataError: no manifest, one that this version does not understand, or tables that do not match it.
        """
        path = directory / FILE_NAME
        try:
            manifest = _from_json(json.loads(path.read_text(encoding="utf-8")))
            sizes = {name: (directory / f"{name}.parquet").stat().st_size for name in TABLE_NAMES}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{directory} holds no complete data set ({error}): {made_by('data')}") from error
        if sizes != manifest.bytes:
            raise DataError(f"{directory}: the tables do not match {FILE_NAME}: run `marquee data --force`")
        return manifest


def _from_json(raw: dict[str, Any]) -> Manifest:
    if raw["format"] != FORMAT:
        raise ValueError(f"format {raw['format']!r}, expected {FORMAT}")
    inputs = tuple(
        FileReport(**{**report, "first": tuple(Reject(**reject) for reject in report["first"])})
        for report in raw["about"]["inputs"]
    )
    about = About(**{**raw["about"], "inputs": inputs})
    first, last = raw["window"]
    joins = tuple(Join(**join) for join in raw["facts"]["joins"])
    facts = Facts(**{**raw["facts"], "joins": joins, "notes": tuple(raw["facts"]["notes"])})
    return Manifest(about, raw["request"], raw["counts"], (first, last), raw["bytes"], facts)
