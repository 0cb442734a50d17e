"""The results' file and the page made from it: each suite replaces its own section, the others stay.

Does not belong here: how the page reads (`page`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from loadtests.bench.page import page
from loadtests.bench.result import Entry

DATA, PAGE = "performance.json", "performance.md"

FORMAT = 1
"""Raised when a reader of the previous format could misread a file."""

ENTRIES = TypeAdapter(list[Entry])


class Unreadable(Exception):
    """Not results of this format."""


def read(folder: Path) -> dict[str, Entry]:
    """Section name → what was measured last; empty where nothing was.

    Raises:
        Unreadable: the file is not one of this format.
    """
    path = folder / DATA
    if not path.exists():
        return {}
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["format"] != FORMAT:
            raise Unreadable(f"{path} has format {held['format']}, not {FORMAT}: move it away")
        entries = ENTRIES.validate_python(held["sections"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unreadable(f"{path} holds no results ({error}): move it away") from error
    return {entry.section.name: entry for entry in entries}


def merge(folder: Path, entry: Entry, order: Sequence[str]) -> None:
    """Puts one section in its place and writes data and page anew. One that was skipped replaces none
    that was measured, perhaps on another machine.

    Args:
        order: of the sections on the page, by name; others, of suites that are no more, go.

    Raises:
        Unreadable: see `read`.
        ValueError: a figure is not finite; what was there stays.
    """
    entries = read(folder)
    before = entries.get(entry.section.name)
    if before is None or before.section.skipped or not entry.section.skipped:
        entries[entry.section.name] = entry
    write(folder, [entries[name] for name in order if name in entries])


def write(folder: Path, entries: Sequence[Entry]) -> None:
    data = {"format": FORMAT, "sections": ENTRIES.dump_python(list(entries), mode="json")}
    text = json.dumps(data, indent=1, allow_nan=False)
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / DATA, text + "\n")
    _replace(folder / PAGE, page(entries))


def _replace(path: Path, text: str) -> None:
    """Writes the whole file, or leaves it as it was."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
