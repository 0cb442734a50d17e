"""Why a group of training workers failed, in one line: which worker, on which machine or pod, and what to do.

Does not belong here: starting workers and replacing them (`training.trainer`).
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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

NODE = re.compile(r"Memory on the node \(IP: ([^,)]+).*?/ ([\d.]+)GB limit")
"""Where Ray's memory monitor says which machine's memory ended, and at how many GiB."""

LONGEST = 300
"""Characters of a library's message."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker runs. `host`: in a cluster the pod's name. `memory`: bytes it may have, if limited."""

    host: str
    memory: int | None

    @staticmethod
    def here() -> Place:
        return Place(socket.gethostname(), _limit())

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
    for words, cause in ((MEMORY, "ran out of memory"), (DIED, "was killed, as where memory ends")):
        for rank, failure in sorted(failures.items()):
            if any(word in _text(failure) for word in words):
                place = Place.noted(directory, rank) or _node(
                    _text(failure)
                )  # it may die before it notes one
                return f"worker {rank} {_where(place)}{cause}: {_remedy()}"
        if not failures and any(word in _text(error) for word in words):
            return f"a worker {_where(_node(_text(error)))}{cause}: {_remedy()}"
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


def _node(text: str) -> Place | None:
    """The machine that Ray names, by its address, as the one whose memory ended."""
    named = NODE.search(text)
    return None if named is None else Place(_host(named[1]), round(float(named[2]) * (1 << 30)))


def _host(address: str) -> str:
    """What the machine of the cluster with this address calls itself; the address where Ray does not say."""
    import ray  # where training workers were it is there already

    if not ray.is_initialized():
        return address
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray has no types for it
    names = {node["NodeManagerAddress"]: node["NodeManagerHostname"] for node in nodes}
    return str(names.get(address, address))


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
