"""Limits that hold from a table to an answer, each stated once. Standard library only."""

from __future__ import annotations

MAX_ID_CHARS = 256
"""Characters of a user's or an item's id. A longer one is a mistake, and ids end up in logs and keys."""

MAX_VALUE = 1e12
"""Largest strength of an event, either way: far above ratings, counts, and a year in milliseconds. Beyond it
float32 loses what statistics and models compute with it (at 1e19 a square is infinite)."""

MAX_ITEMS = 1_000_000
"""Items of a catalogue that is taken. Measured: 200,000 items and 1.7 million events train in 4 GB; memory
and time grow at least in proportion."""

ONLINE_ITEMS = 100_000
"""Items whose rows are written into Redis: nothing that serves reads them, their features ride in the bundle,
and half a millisecond each makes eight minutes of a million."""


def too_many_items(items: int) -> str | None:
    """What to say of a catalogue that cannot be trained on; None where it can."""
    if items <= MAX_ITEMS:
        return None
    return (
        f"{items:,} items are more than the {MAX_ITEMS:,} that training takes: "
        "leave items with few interactions out of the tables"
    )
