"""How many people there are at each moment of a load test, as a share of its most. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

RAMP = 0.1
"""Share of the test in which a steady load comes up; only in a spike does everybody come at once."""

QUIET = 0.2
"""What is left of the load outside a spike, and in the night of a day."""

SPIKE = (0.4, 0.6)
"""When the spike begins and ends, as shares of the test: before and after it the usual can be seen."""


def steady(at: float) -> float:
    """Up in the first tenth, then level. `at`: share of the test that has passed, 0 to 1."""
    return min(1.0, at / RAMP)


def spike(at: float) -> float:
    """A fifth of the load, five times as much at once for a fifth of the time, and a fifth again."""
    begin, end = SPIKE
    return 1.0 if begin <= at < end else QUIET


def diurnal(at: float) -> float:
    """A day from midnight to midnight: a cosine, lowest at its ends and highest in the middle."""
    return QUIET + (1 - QUIET) * (1 - math.cos(2 * math.pi * at)) / 2


PROFILES: Mapping[str, Callable[[float], float]] = {"steady": steady, "spike": spike, "diurnal": diurnal}


def people(profile: str, most: int, at: float) -> int:
    """At least one, so that a test never stands still."""
    return max(1, round(most * PROFILES[profile](at)))
