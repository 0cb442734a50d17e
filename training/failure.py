"""Why a group of training workers failed, in one line: which worker, on which machine or pod, and what to do.

Does not belong here: starting workers and replacing them (`training.trainer`).
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from features.remedy import RELEASE

FOLDER = "workers"
"""Below the run's folder: a file a rank that says where it runs."""

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux says how much memory a container may have: cgroups of version 2, and of 1."""

UNLIMITED = 1 << 60
"""Bytes from which on version 1 means "none"."""

MEMORY = ("OutOfMemoryError", "low on memory", "out of memory")
DIED = ("node has died", "unexpectedly", "connection error code", "SIGKILL", "is dead", "Died")
"""What Ray says of a worker that its memory monitor ended, and of one that is gone without a word."""

NODE = re.compile(r"Memory on the node \(IP: ([^,)]+)")
"""Where Ray's memory monitor says which machine's memory ended."""

LONGEST = 300
"""Characters of somebody else's message."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker runs. `host`: in a cluster the pod's name. `memory`: bytes it may have, if limited.
    `address`: its IP address, by which Ray calls the machine."""

    host: str
    memory: int | None
    address: str = ""

    @staticmethod
    def here(address: str = "") -> Place:
        return Place(socket.gethostname(), _limit(), address)

    def note(self, directory: Path, rank: int) -> None:
        folder = directory / FOLDER
        folder.mkdir(exist_ok=True)
        (folder / f"{rank}.json").write_text(json.dumps(asdict(self)), encoding="utf-8")

    @staticmethod
    def noted(directory: Path, rank: int) -> Place | None:
        try:
            return Place(**json.loads((directory / FOLDER / f"{rank}.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


def why(error: BaseException, directory: Path) -> str:
    """One line. `directory` is the run's, where workers noted their places. Ray says who failed of a group
    that ran; of one that did not start it gives one error for all."""
    failures: Mapping[int, BaseException] = getattr(error, "worker_failures", {})
    for words, said in ((MEMORY, "ran out of memory"), (DIED, "was killed, as where memory ends")):
        for rank, failure in sorted(failures.items()):
            if any(word in _text(failure) for word in words):
                return f"worker {rank} {_where(Place.noted(directory, rank))}{said}: {_remedy()}"
        if not failures and any(word in _text(error) for word in words):
            return f"a worker {_of_node(_text(error), directory)}{said}: {_remedy()}"
    for rank, failure in sorted(failures.items()):
        return f"worker {rank} {_where(Place.noted(directory, rank))}failed: {last_line(failure)}"
    return last_line(error)


def _text(error: BaseException) -> str:
    return f"{type(error).__name__} {error}"


def last_line(error: BaseException) -> str:
    """Of a traceback the line that names the error; cut between words where it is long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = lines[-1] if lines else type(error).__name__
    return line if len(line) <= LONGEST else f"{line[:LONGEST].rsplit(' ', 1)[0]} …"


def _where(place: Place | None) -> str:
    if place is None:
        return ""
    kind = "in pod" if RELEASE in os.environ else "on"
    limit = "" if place.memory is None else f" (memory limit {place.memory / (1 << 30):.3g} GiB)"
    return f"{kind} {place.host}{limit} "


def _of_node(text: str, directory: Path) -> str:
    """Where the machine is that Ray names by its address; the address alone where no worker got as far as to
    note its place."""
    named = NODE.search(text)
    if named is None:
        return ""
    for place in _all_noted(directory):
        if place.address == named[1]:
            return _where(place)
    return f"at {named[1]} "


def _all_noted(directory: Path) -> Iterator[Place]:
    for path in sorted((directory / FOLDER).glob("*.json")):
        if place := Place.noted(directory, int(path.stem)):
            yield place


def _remedy() -> str:
    if RELEASE in os.environ:
        return (
            "raise retrain.worker.resources.limits.memory, or for one run `marquee train submit --memory`; "
            "a bootstrap's is bootstrap.resources.limits.memory"
        )
    return "end other programs, or train with fewer --workers"


def _limit() -> int | None:
    for path in LIMITS:
        try:
            bytes_ = int(Path(path).read_text(encoding="ascii"))
        except (OSError, ValueError):  # "max" is no number
            continue
        return bytes_ if bytes_ < UNLIMITED else None
    return None
