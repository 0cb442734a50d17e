"""How long work says how far it is. Standard library only."""

from __future__ import annotations

from collections.abc import Callable

Step = Callable[[str, int, int | None], None]
"""Called with what is being done, how much of it is, and of how much (None: not known)."""


def silent(what: str, done: int, total: int | None) -> None:
    """A `Step` that shows nothing."""
