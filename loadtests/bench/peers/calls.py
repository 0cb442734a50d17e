"""How the pipeline is to be called where it has no server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Calls:
    """Attributes:
    seconds: to go on.
    pause_s: seconds between two calls.
    at_once: callers, each of which waits for its own answer.
    together: what they ask for at the same moment is read and computed as one, as in Marquee's replica.
    """

    seconds: float
    pause_s: float = 0.0
    at_once: int = 1
    together: bool = False
