"""What the serving core raises. The HTTP layer turns each into a problem document (RFC 9457)."""

from __future__ import annotations

from collections.abc import Sequence


class ServingError(Exception):
    """Base of everything the core raises on purpose."""


class Unavailable(ServingError):
    """Nothing can be answered now, and a retry may help."""

    def __init__(self, reason: str, retry_after_s: float = 1.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Deadline(ServingError):
    """A stage was not begun: nothing is left of the request's time."""


class UnknownItems(ServingError):
    """Items the request is about, and which the bundle in service does not hold.

    Attributes:
        field: where the request names them.
    """

    def __init__(self, field: str, item_ids: Sequence[str]) -> None:
        super().__init__(f"not in the catalogue: {', '.join(map(repr, item_ids[:10]))}")
        self.field = field
        self.item_ids = tuple(item_ids)


class InvalidFilter(ServingError):
    """A filter that names an unknown field or operator, or an operand of the wrong type."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"filter.{field}: {reason}")
        self.field = field
        self.reason = reason


class InvariantViolation(ServingError):
    """A stage broke its law (length, order, duplicates); the executor treats it as that stage's failure."""
