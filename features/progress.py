"""How long work says how far it is."""

from __future__ import annotations

from collections.abc import Callable

Step = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is, and of how much."""


def silent(what: str, done: int, total: int) -> None:
    """A `Step` that shows nothing."""
