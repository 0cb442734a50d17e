"""Steps as one program on a worker thread, with a clock between them.

The event loop stays free while it computes. It watches the step that runs: one that outlives its budget is
left behind on its thread, and the program goes on without it on another. Between two steps the program leaves
out what a request has no time for. A step that fails for a batch is tried request by request, so that one bad
request costs only itself.

Does not belong here: which steps there are (`serving.pipeline`), and which requests are gathered
(`serving.batcher`).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from serving.errors import Deadline
from serving.observe import losses, tracing
from serving.state import State, Timing
from serving.steps import Step
from serving.types import Mask
from serving.worker_threads import Hanging, WorkerThreads
from training.models.arrays import Int64

Clock = Callable[[], float]


class Runner(Protocol):
    """Where a program's steps run: on a thread here, or on other replicas."""

    async def run(self, program: Program, state: State) -> State: ...


@dataclass(eq=False)
class _Run:
    """One run of a program, watched from the event loop. Only the thread whose number is `thread` writes, and
    whoever reads or writes holds the lock: a step that ends as it is left behind ends once."""

    state: State
    workers: WorkerThreads | None = None
    step: int = 0
    began: float = 0.0
    thread: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Program:
    """Steps in the order they run."""

    def __init__(self, steps: Sequence[Step], clock: Clock = time.monotonic) -> None:
        self.steps = tuple(steps)
        self._clock = clock

    def run(self, state: State) -> State:
        """On this thread, without a watch: as long as it takes."""
        run = _Run(state)
        self._advance(run, 0)
        return run.state

    async def watched(self, state: State, workers: WorkerThreads) -> State:
        """On a worker thread, where no step takes longer than its budget."""
        run, loop = _Run(state, workers, began=self._clock()), asyncio.get_running_loop()
        while run.step < len(self.steps):
            working = loop.run_in_executor(workers.pool, self._advance, run, run.thread)
            while not working.done() and (left := self._watch(run)) != 0:
                await asyncio.wait((working,), timeout=left)
            if working.done():
                working.result()
        return run.state

    def lost(self, state: State, error: Exception, seconds: float) -> State:
        """The state where none of the steps ran, after so many seconds."""
        for step in self.steps:
            takes = state.open & step.takes(state)
            state = _declined(step, state, ~takes)
            state = _lost(step, state, np.flatnonzero(takes), error, self._clock() - seconds, seconds)
        return state

    def _watch(self, run: _Run) -> float | None:
        """Seconds that the step that runs may still take, of its budget or of the request with the most time.
        0 where there were none left, and it was left behind; None where no step is left to run."""
        with run.lock:
            if run.step == len(self.steps):
                return None
            last = float(run.state.deadline.max(initial=-np.inf))
            left = min(run.began + self.steps[run.step].budget_s, last) - self._clock()
            if left <= 0:
                self._leave_behind(run)
            return max(0.0, left)

    def _leave_behind(self, run: _Run) -> None:
        step, state, now = self.steps[run.step], run.state, self._clock()
        if run.workers is not None:
            run.workers.left_behind((run, run.thread), step.name)
        run.thread += 1  # from here on the thread that hangs writes nothing
        takes = state.open & step.takes(state)
        state = _declined(step, state, ~takes)
        late, seconds = state.deadline <= run.began, now - run.began
        for rows, error in ((takes & late, _deadline(step)), (takes & ~late, _too_long(step))):
            state = _lost(step, state, np.flatnonzero(rows), error, run.began, seconds)
        run.state, run.step, run.began = state, run.step + 1, now

    def _advance(self, run: _Run, thread: int) -> None:
        try:
            with tracing.computing(run.state.queries.traceparents):
                while (begun := self._begin(run, thread)) is not None:
                    step, state = begun
                    if run.workers is not None and run.workers.refuses(step.name):
                        state = self._refused(step, state)
                    else:
                        state = self._one(step, state)
                    with run.lock:
                        if run.thread == thread:
                            run.state, run.step, run.began = state, run.step + 1, self._clock()
        finally:
            if run.workers is not None:
                run.workers.returned((run, thread))

    def _begin(self, run: _Run, thread: int) -> tuple[Step, State] | None:
        """The next step and what it is given; None for a thread that was left behind, or has none left."""
        with run.lock:
            if run.thread != thread or run.step == len(self.steps):
                return None
            run.began = self._clock()
            return self.steps[run.step], run.state

    def _refused(self, step: Step, state: State) -> State:
        """The state after a step that is not begun."""
        takes = state.open & step.takes(state)
        state = _declined(step, state, ~takes)
        error = Hanging(f"earlier runs of {step.name} hang")
        return _lost(step, state, np.flatnonzero(takes), error, self._clock(), 0.0)

    def _one(self, step: Step, state: State) -> State:
        """The state after a step, whatever happens in it."""
        began = self._clock()
        takes = state.open & step.takes(state)
        state = _declined(step, state, ~takes)
        late = takes & (state.deadline <= began)
        rows = np.flatnonzero(takes & ~late)
        before = step.count(state)
        if late.any():
            state = _lost(step, state, np.flatnonzero(late), _deadline(step), began, 0.0)
        if not len(rows):
            return state
        state = _applied(step, state, rows)
        seconds, mask = self._clock() - began, _mask(rows, len(state))
        return state.took(Timing(step.name, began, seconds, before, step.count(state), mask))


@dataclass(frozen=True)
class Here:
    """This process: on a worker thread, or on the caller's where there are none."""

    workers: WorkerThreads | None = None

    async def run(self, program: Program, state: State) -> State:
        before = len(state.timings)
        done = program.run(state) if self.workers is None else await program.watched(state, self.workers)
        if any(done.queries.traceparents):
            tracing.stages(done.queries.traceparents, done.timings[before:], done.losses)
        return done


def _deadline(step: Step) -> Exception:
    return Deadline(f"nothing was left of the request's time for {step.name}")


def _too_long(step: Step) -> Exception:
    return TimeoutError(f"{step.name} took longer than its budget")


def _declined(step: Step, state: State, others: Mask) -> State:
    if others.any() and (left := step.declined(state.take(rows := np.flatnonzero(others)))):
        return state.put([(rows, left)])
    return state


def _applied(step: Step, state: State, rows: Int64) -> State:
    whole = len(rows) == len(state)
    part = state if whole else state.take(rows)
    try:
        done = step.run(part)
    except Exception as error:
        if len(rows) == 1:
            losses.log_first(step.name, error)
            return _lose(step, state, rows, error)
        for row in rows:
            state = _applied(step, state, np.array([row]))
        return state
    return done if whole else state.put([(rows, done)])


def _lose(step: Step, state: State, rows: Int64, error: Exception) -> State:
    return state.put([(rows, step.without(state.take(rows)))]).lose(step.name, error, rows)


def _lost(step: Step, state: State, rows: Int64, error: Exception, began: float, seconds: float) -> State:
    if not len(rows):
        return state
    losses.log_first(step.name, error)
    before = step.count(state)
    state = _lose(step, state, rows, error)
    return state.took(Timing(step.name, began, seconds, before, step.count(state), _mask(rows, len(state))))


def _mask(rows: Int64, b: int) -> Mask:
    mask = np.zeros(b, np.bool_)
    mask[rows] = True
    return mask
