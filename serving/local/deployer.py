"""Has `local.deploying` do what needs a bundle, Ray or Serve in memory, and ends what that left running.

Does not belong here: the steps themselves, and their order (`serving.local.runtime`).
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

import psutil

STEP_S = 900.0
"""Seconds for one step. A replica may have to fetch a large bundle first; nobody waits for ever."""

ENDED_S = 5.0
"""Seconds for the program to end when it is asked for nothing more, for Ray's raylet to end, and for what was
killed to be gone."""

RAYLET = "raylet"
"""The name of the process that has Ray's workers and agents below it."""

MODULE = "serving.local.deploying"


class StartFailed(Exception):
    """The run did not start; the text says why and what to do."""


class Deployer:
    """The program as a context manager; one step at a time. It has a session of its own, so the terminal's
    Ctrl-C reaches only this process, which decides the order of the end."""

    def __enter__(self) -> Deployer:
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, step: str, **arguments: Any) -> Any:
        """What the step returned.

        Raises:
            StartFailed: for a reason that the user can do something about.
            RuntimeError: for another, or it took more than `STEP_S`.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it ended; the missing answer says so
            self._process.stdin.write(json.dumps({"step": step, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        answer = json.loads(self._line(step))
        if "failed" in answer:
            raise StartFailed(answer["failed"])
        if "broken" in answer:
            raise RuntimeError(answer["broken"])
        return answer["value"]

    def _line(self, step: str) -> bytes:
        assert self._process.stdout is not None
        deadline, line = time.monotonic() + STEP_S, b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(deadline - time.monotonic()):
                    raise RuntimeError(f"{step} took more than {STEP_S:g} s")
                part = os.read(self._process.stdout.fileno(), 1 << 16)
                if not part:
                    raise RuntimeError(f"the process that was to {step} ended with {self._process.wait()}")
                line += part
        return line

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        if kind is not None:
            self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDED_S)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@contextmanager
def ended(processes: Sequence[int]) -> Iterator[None]:
    """Ends these processes of Ray, and all below them, when the block is left."""
    known = [psutil.Process(pid) for pid in processes]
    try:
        yield
    finally:
        everyone = set(known)
        for process in known:
            with suppress(psutil.NoSuchProcess):
                everyone.update(process.children(recursive=True))
        _end(everyone)


def _end(processes: Collection[psutil.Process]) -> None:
    """In Ray's own order: its raylet is asked and ends workers and agents; the rest has nothing to save."""
    asked = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.name() == RAYLET:
                process.terminate()
                asked.append(process)
    psutil.wait_procs(asked, ENDED_S)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, ENDED_S)


def adopt_orphans() -> None:
    """Processes whose parent ends become this process's children instead of init's, so that a run stays one
    tree: prctl(2) PR_SET_CHILD_SUBREAPER. Linux only."""
    if sys.platform == "linux":
        pr_set_child_subreaper = 36
        ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1)
