"""Finds the processes that a test started, however far down, by a variable that they inherited."""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

TAG = "MARQUEE_TEST_RUN"

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")


@contextmanager
def tagging() -> Iterator[str]:
    """A value for the variable TAG; at the end all processes that have it are killed."""
    tag = uuid.uuid4().hex
    try:
        yield tag
    finally:
        for pid in tagged(tag):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def tagged(tag: str) -> list[int]:
    """Processes that inherited the tag."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{TAG}={tag}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found
