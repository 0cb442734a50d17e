"""Limits that hold from a table to an answer, each stated once. Standard library only."""

from __future__ import annotations

MAX_ID_CHARS = 256
"""Characters of a user's or an item's id. A longer one is a mistake, and ids end up in logs and keys."""

MAX_VALUE = 1e12
"""Largest strength of an event, either way: far above ratings, counts, and a year in milliseconds. Beyond it
float32 loses what statistics and models compute with it (at 1e19 a square is infinite)."""

MAX_ITEMS = 20_000
"""Items of a catalogue that training takes: the linear models need three n x n float32 matrices (4.8 GB here)
and time that grows with n³ (minutes, on two cores)."""


def too_many_items(items: int) -> str | None:
    """What to say of a catalogue that cannot be trained on; None where it can."""
    if items <= MAX_ITEMS:
        return None
    return (
        f"{items:,} items are more than the {MAX_ITEMS:,} that training takes: "
        "leave items with few interactions out of the tables"
    )
