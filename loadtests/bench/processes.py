"""A server under test as a tree of processes: started, ready, measured from outside, and gone at the end.

Does not belong here: which servers there are, and load on them.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import httpx
import psutil

READY_POLL_S = 0.1
PROBE_S = 2.0
STOP_S = 30.0
"""Seconds from SIGTERM to SIGKILL: Ray Serve drains its replicas first."""

_GONE = (psutil.NoSuchProcess, psutil.ZombieProcess)


class ServerFailed(Exception):
    """The server ended or was not ready in time; the text ends with what it said last."""


@dataclass(frozen=True, slots=True)
class Served:
    """Attributes:
    url: scheme, host and port.
    pid: of the process that was started; the others are its children.
    """

    url: str
    pid: int


@contextmanager
def serving(
    command: Sequence[str | Path], env: Mapping[str, str], ready_url: str, timeout_s: float
) -> Iterator[Served]:
    """The server from its first 2xx at `ready_url` until the block is left.

    Args:
        env: on top of this process's.
        timeout_s: to become ready.

    Raises:
        ServerFailed: it ended before, or was not ready in time.
    """
    with tempfile.TemporaryFile("w+b") as said:
        process = subprocess.Popen(
            [str(part) for part in command],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_until_ready(process, ready_url, timeout_s, said)
            parts = urlsplit(ready_url)
            yield Served(f"{parts.scheme}://{parts.netloc}", process.pid)
        finally:
            stop(process.pid)
            process.wait(STOP_S)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, timeout_s: float, said: IO[bytes]) -> None:
    deadline = time.monotonic() + timeout_s
    with httpx.Client(trust_env=False, timeout=PROBE_S) as client:
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                if client.get(url).is_success:
                    return
            try:
                code = process.wait(READY_POLL_S)
            except subprocess.TimeoutExpired:
                continue
            raise ServerFailed(f"{process.args!r} ended with {code}: {_last_words(said)}")
    raise ServerFailed(f"{url} was not ready after {timeout_s:g} s: {_last_words(said)}")


def _last_words(said: IO[bytes]) -> str:
    said.seek(0)
    return said.read().decode(errors="replace")[-2_000:].strip() or "it said nothing"


def tree(root: int) -> list[psutil.Process]:
    """The living processes with this id and all below it."""
    with suppress(*_GONE):
        process = psutil.Process(root)
        return [member for member in (process, *process.children(recursive=True)) if member.is_running()]
    return []


def cpu_seconds(root: int) -> float:
    """CPU time of the tree so far, user and system, seconds; of ended children once they are waited for."""
    total = 0.0
    for process in tree(root):
        with suppress(*_GONE):
            used = process.cpu_times()
            total += used.user + used.system + used.children_user + used.children_system
    return total


def pss(root: int) -> int:
    """Proportional set size of the tree, bytes. A page shared by n processes counts a n-th in each (proc(5),
    smaps_rollup), so that the sum is true."""
    total = 0
    for process in tree(root):
        with suppress(*_GONE, FileNotFoundError, ProcessLookupError):
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
            found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
            total += int(found[1]) << 10 if found else 0
    return total


def stop(pid: int, timeout_s: float = STOP_S) -> None:
    """Ends the tree: SIGTERM to its root, which ends the rest in its own order; what is left after
    `timeout_s`, or survives its root, is killed."""
    members = tree(pid)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    _, alive = psutil.wait_procs([member for member in members if member.pid == pid], timeout=timeout_s)
    left = {member.pid: member for member in (*alive, *members, *tree(pid)) if member.is_running()}
    for member in left.values():
        with suppress(*_GONE):
            member.kill()
    psutil.wait_procs(list(left.values()), timeout=timeout_s)
