"""A child process that does not outlive its parent, however that one ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable


def die_with_parent() -> Callable[[], None] | None:
    """What a child runs before it becomes its program (`preexec_fn`): SIGTERM to it when the thread that
    started it dies, even by SIGKILL (prctl(2), PR_SET_PDEATHSIG). Linux only; None elsewhere."""
    if sys.platform != "linux":
        return None
    prctl, pr_set_pdeathsig, parent = ctypes.CDLL(None).prctl, 1, os.getpid()

    def arrange() -> None:
        prctl(pr_set_pdeathsig, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return arrange
