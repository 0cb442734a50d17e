"""Ends what a run started, whatever ended the run: even SIGKILL leaves no process behind.

The guard is a small process that waits for end-of-file on its input. That comes when the run releases it or
dies in any way. The guard then ends every process whose environment carries the run's tag (children inherit
it, `/proc` shows it) and removes the run's folder. Without `/proc`, on macOS, it finds no process to end.

Does not belong here: an orderly stop (`serving.local.runtime`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

RUN_ID = "MARQUEE_RUN_ID"

GRACE_S = 5.0
"""Seconds between SIGTERM and SIGKILL; an embedded Redis saves its data in well under one."""

PAUSE_S = 0.05
"""Seconds between two looks at the processes."""


class Guard:
    """Starts the guard of one run. Start it before anything carries the tag, or it would end itself."""

    def __init__(self, tag: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, tag, str(folder)],  # -I: our types.py would hide Python's
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def release(self) -> None:
        """Returns when no process of the run is left, and its folder is gone."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def members(tag: str) -> list[int]:
    """Ids of the processes that were started with the tag, this one left out."""
    mark = f"{RUN_ID}={tag}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:  # gone meanwhile, or another user's
            continue
        if mark in environment.split(b"\0") and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def end_all(tag: str, grace_s: float = GRACE_S) -> None:
    """Ends the tag's processes and waits until they are gone: asked first, forced after the grace."""
    forced_from = time.monotonic() + grace_s
    asked: set[int] = set()
    while left := members(tag):
        for pid in left:
            if time.monotonic() >= forced_from:
                _send(pid, signal.SIGKILL)
            elif pid not in asked:
                _send(pid, signal.SIGTERM)
        asked.update(left)
        time.sleep(PAUSE_S)


def _send(pid: int, which: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, which)


def main(tag: str, folder: str) -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    sys.stdin.buffer.read()
    end_all(tag)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
