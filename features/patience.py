"""Asks again while something that is about to be there is not: a server that starts beside the caller.

Does not belong here: what is asked, and which of its failures may pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE_S = 2.0
"""Seconds between two tries."""

SAID_S = 30.0
"""Seconds between two lines about the same wait."""


def patiently(
    call: Callable[[], T], passing: type[Exception], within_s: float, on_progress: Callable[[str], None]
) -> T:
    """What the call comes to, tried again while it fails in the way that may pass.

    Args:
        within_s: seconds from the first try to the last; 0 tries once.
        on_progress: called with a line at first and then about every `SAID_S`.

    Raises:
        Exception: of the class `passing`, when the time is over; of any other, at once.
    """
    until, next_line = time.monotonic() + within_s, 0.0
    while True:
        try:
            return call()
        except passing as error:
            now = time.monotonic()
            if now >= until:
                raise
            if now >= next_line:
                on_progress(f"waiting up to {until - now:.0f} s more: {error}")
                next_line = now + SAID_S
        time.sleep(PAUSE_S)
