"""Virtual time for an event loop and the threads of its pool: budgets are exact, and cost no time.

The clock stands still while anything computes, and jumps to the next timer when every thread that is busy
waits for the clock too: a stage that hangs, or that takes so many seconds.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar, TypeVarTuple
from unittest import mock

from serving.program import Program
from serving.worker_threads import WorkerThreads

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

POOL = WorkerThreads()
"""Threads that compute in tests; every `run` frees those that hang."""


class _Clock:
    """Shared by the loop, which moves it, and the threads, which read it and wait for it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._asleep: dict[threading.Event, float] = {}
        self._lock = threading.Lock()

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """On a thread of the pool."""
        awake = threading.Event()
        with self._lock:
            self._asleep[awake] = self.now + seconds
        awake.wait()

    def all_asleep(self, busy: int) -> bool:
        with self._lock:
            return len(self._asleep) >= busy

    def jump(self, timeout: float | None) -> None:
        """To the loop's next timer or the next thread to wake, whichever comes first."""
        with self._lock:
            until = min(
                self.now + (math.inf if timeout is None else timeout),
                min(self._asleep.values(), default=math.inf),
            )
            if until == math.inf:
                raise RuntimeError("everything waits and no timer is set: without a budget this is a hang")
            self.now = until
            self._wake(until)

    def free(self) -> None:
        with self._lock:
            self._wake(math.inf)

    def _wake(self, until: float) -> None:
        for awake, at in list(self._asleep.items()):
            if at <= until:
                del self._asleep[awake]
                awake.set()


_clock = _Clock()


class _SkippingSelector(selectors.SelectSelector):
    """Where nothing is ready and nothing computes, moves the clock instead of waiting for it."""

    busy = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        while not ready and (timeout is None or timeout > 0):
            if _clock.all_asleep(self.busy):
                _clock.jump(timeout)
                break
            ready = super().select(0.001)
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    """Its clock starts at 0. A thread is busy until the loop has heard of its result."""

    def __init__(self) -> None:
        self._skipping = _SkippingSelector()
        super().__init__(self._skipping)

    def time(self) -> float:
        return _clock.now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        self._skipping.busy += 1
        working: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        working.add_done_callback(self._idle)
        return working

    def _idle(self, _: asyncio.Future[Any]) -> None:
        self._skipping.busy -= 1

    @property
    def busy(self) -> int:
        return self._skipping.busy


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs it on virtual time, which the executor's deadlines follow too, and checks that no task of it
    is left."""
    global _clock
    _clock, loop = _Clock(), _VirtualLoop()
    clock = SimpleNamespace(monotonic=lambda: _clock.now, perf_counter=time.perf_counter)
    modules = ("serving.pipeline", "serving.batcher", "serving.hydration")
    patches: list[Any] = [mock.patch(f"{module}.time", clock) for module in modules]
    patches.append(mock.patch.object(Program.__init__, "__defaults__", (clock.monotonic,)))
    for patch in patches:
        patch.start()
    try:
        return loop.run_until_complete(work)
    finally:
        left = asyncio.all_tasks(loop)
        _clock.free()
        while loop.busy:
            loop.run_until_complete(asyncio.sleep(0.001))
        for patch in patches:
            patch.stop()
        loop.close()
        assert not left, f"tasks left behind: {left}"


@dataclass(frozen=True)
class Fault:
    """What a stage does before it answers: on a thread that computes, or on the event loop. Here nothing."""

    def compute(self) -> None:
        pass

    async def wait(self) -> None:
        pass


class Fails(Fault):
    def compute(self) -> None:
        raise ConnectionError("injected")

    async def wait(self) -> None:
        self.compute()


@dataclass(frozen=True)
class Lasts(Fault):
    """So many seconds of virtual time."""

    seconds: float

    def compute(self) -> None:
        _clock.sleep(self.seconds)

    async def wait(self) -> None:
        await asyncio.sleep(self.seconds)


class Hangs(Fault):
    """For ever: a computation is freed when `run` ends."""

    def compute(self) -> None:
        _clock.sleep(math.inf)

    async def wait(self) -> None:
        await asyncio.Event().wait()


@dataclass(frozen=True)
class Held(Fault):
    """Until it is freed: for tests in real time, whose pipelines compute on threads."""

    free: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)

    def compute(self) -> None:
        self.begun.set()
        assert self.free.wait(60), "nobody freed it"


works, fails, hangs, lasts = Fault(), Fails(), Hangs(), Lasts
