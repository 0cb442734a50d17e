"""Tiny tables as strangers write them: one content in many spellings."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from training.data.ingest import Ingest
from training.data.manifest import DataError
from training.data.own import read_own
from training.data.tables import Tables

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le-mark", "utf-16-be-mark", "utf-32")
ENDS = ("\n", "\r\n", "\r", "mixed")

texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)


def written(rows: list[list[str]], end: str = "\n", encoding: str = "utf-8") -> bytes:
    """Rows as CSV, all cells quoted where one needs it."""
    lines = [",".join(_cell(cell) for cell in row) for row in rows]
    if end == "mixed":
        text = "".join(line + ENDS[at % 3] for at, line in enumerate(lines))
    else:
        text = end.join(lines) + end
    if encoding.endswith("-mark"):
        return ("\ufeff" + text).encode(encoding.removesuffix("-mark"))
    return text.encode(encoding)


def folder(place: Path, **tables: bytes | str) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    for name in ("interactions", "items", "users"):
        (place / f"{name}.csv").unlink(missing_ok=True)
    for name, content in tables.items():
        (place / f"{name}.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return place


def read(place: Path, share: float = 0.0) -> Tables:
    return read_own(place, Ingest(share))


def refusal(place: Path) -> str | None:
    """What a folder of which any share of rows may be malformed is refused with; None where it is read."""
    try:
        read(place, 1.0)
    except DataError as refused:
        return str(refused)
    return None


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text
