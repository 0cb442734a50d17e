"""The log lines of lost stages: the first of each kind, with its traceback.

A count alone says nothing of the cause; a line for each request would bury everything else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

_logged: set[tuple[str, str]] = set()
"""Stage and class of error of what this process has logged: bounded, as classes are few."""


def log_first(stage: str, error: BaseException) -> None:
    """Logs it unless this stage was lost to this class of error before."""
    kind = stage, type(error).__name__
    if kind not in _logged:
        _logged.add(kind)
        log.warning("%s was lost; more of it is only counted", stage, exc_info=error)


def of_runtime(runtime: str, count: Callable[[str, str], None]) -> Callable[[str, str], None]:
    """What a runtime calls for each call of a network that it lost (component, reason): counted as stage
    `<runtime>:<component>`, the first of each kind logged."""

    def lost(component: str, reason: str) -> None:
        stage = f"{runtime}:{component}"
        count(stage, reason)
        if (stage, reason) not in _logged:
            _logged.add((stage, reason))
            log.warning("%s failed a call: %s; more of it is only counted", stage, reason)

    return lost
