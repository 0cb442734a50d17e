"""The threads of a process that compute, and those of them on which a stage hangs.

A thread cannot be stopped from outside: a stage that never returns keeps its own for good. So that hanging
stages never hold all of them, a stage that holds one is not begun again while half of the threads hang, and a
replica on which one hangs for long reports itself unhealthy and is replaced.

Does not belong here: when a stage is left behind (`serving.program`).
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from serving.errors import ServingError

THREADS = 8
"""Threads of a process that compute. One works; the others are for what goes on while a stage hangs."""

HUNG_S = 30.0
"""Seconds after its budget at which a stage is taken to hang for good: no request lives as long."""


class Hanging(ServingError):
    """Earlier runs of a stage hang on too many threads to begin another."""


@dataclass(frozen=True, slots=True)
class _Left:
    stage: str
    since: float


class WorkerThreads:
    def __init__(self, threads: int = THREADS) -> None:
        self.pool = ThreadPoolExecutor(threads, "stages")
        self._most = threads // 2
        self._left: dict[object, _Left] = {}
        self._lock = threading.Lock()

    def left_behind(self, run: object, stage: str) -> None:
        """From now on the thread of this run of a stage hangs."""
        with self._lock:
            self._left[run] = _Left(stage, time.monotonic())

    def returned(self, run: object) -> None:
        """It does not any longer."""
        with self._lock:
            self._left.pop(run, None)

    def refuses(self, stage: str) -> bool:
        """Whether a stage must not be begun: half of the threads hang, one of them on it."""
        with self._lock:
            on_it = any(each.stage == stage for each in self._left.values())
            return on_it and len(self._left) >= self._most

    def check(self, now: float | None = None) -> None:
        """Raises:
        Hanging: a stage hangs for good.
        """
        now = time.monotonic() if now is None else now
        with self._lock:
            dead = sorted({each.stage for each in self._left.values() if now - each.since > HUNG_S})
        if dead:
            raise Hanging(
                f"{', '.join(dead)} did not return for {HUNG_S:g} s: this replica is to be replaced"
            )

    def close(self) -> None:
        """Without waiting for what hangs."""
        self.pool.shutdown(wait=False, cancel_futures=True)
