"""What can go wrong outside: each error's text is one line that says what to do next."""

from __future__ import annotations


class ControlError(Exception):
    """A command cannot be carried out."""


class Unavailable(ControlError):
    """Nobody answered, or not in time. Trying again later may help."""


class Forbidden(ControlError):
    """The server knows who asks and refuses."""


class NotFound(ControlError):
    """What was named does not exist."""


class Conflict(ControlError):
    """Somebody else wrote first: read again, then decide again."""


class Rejected(ControlError):
    """The server understood and refused what was written."""
