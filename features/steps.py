"""What a long command shows while it works: bars on a terminal, plain lines everywhere else.

A file and a Job's log get one line for each step, and one a minute while it lasts, without control codes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

LINE_EVERY_S = 60.0
"""Seconds between two lines of the same step: often enough to see that a Job lives, and a night of training
is a few hundred lines."""


class Steps(Protocol):
    """A `features.progress.Step` that may say more about how far it is."""

    def __call__(self, what: str, done: int = 0, total: int | None = None, detail: str = "") -> None: ...


@contextmanager
def shown_steps(keep: bool = False, console: Console | None = None) -> Iterator[Steps]:
    """Shows the steps that are reported inside it, on stderr unless another console is given.

    Args:
        keep: whether a terminal keeps the steps when they are done.
    """
    console = console or Console(stderr=True)
    if console.is_terminal:
        yield from _bars(console, keep)
    else:
        yield from _lines(console)


def _bars(console: Console, keep: bool) -> Iterator[Steps]:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=not keep) as bar:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int = 0, total: int | None = None, detail: str = "") -> None:
            if what not in tasks:
                for task in tasks.values():  # a step that begins ends those before it
                    bar.update(task, total=1, completed=1)
                tasks[what] = bar.add_task(escape(what), total=total)
            description = escape(f"{what}: {detail}" if detail else what)
            bar.update(tasks[what], description=description, completed=done, total=total)

        yield show


def _lines(console: Console) -> Iterator[Steps]:
    lines = _Lines(console)
    reminder = threading.Thread(target=lines.remind, name="steps", daemon=True)
    reminder.start()
    try:
        yield lines
    finally:
        lines.ended.set()
        reminder.join()


class _Lines:
    """One line when a step begins, and one every `LINE_EVERY_S` for the latest step."""

    def __init__(self, console: Console) -> None:
        self.ended = threading.Event()
        self._console = console
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._seen: set[str] = set()
        self._latest = ""

    def __call__(self, what: str, done: int = 0, total: int | None = None, detail: str = "") -> None:
        share = f"{done / total:.0%}" if total and done else ""
        state = ", ".join(part for part in (detail, share) if part)
        with self._lock:
            self._latest = f"{what}: {state}" if state else what
            if what not in self._seen:
                self._seen.add(what)
                self._print()

    def remind(self) -> None:
        while not self.ended.wait(LINE_EVERY_S):
            with self._lock:
                if self._latest:
                    self._print()

    def _print(self) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        line = f"[{minutes}:{seconds:02}] {self._latest}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
