"""The traffic that a local run shall have: a file that the admin endpoint of any replica writes, and that all
replicas follow (`serving.traffic.following`). On Kubernetes a ConfigMap is mounted in its place.

Does not belong here: what a replica has in service (`serving.traffic.table`).
"""

from __future__ import annotations

import fcntl
import hashlib
from dataclasses import dataclass
from pathlib import Path

from serving.config import Traffic
from serving.traffic.desired import Desired
from training.manifest import write_atomically


class Stale(Exception):
    """The traffic is no longer the one that the change was made for."""


def revision(traffic: Traffic) -> str:
    """Equal for equal traffic, whoever computes it."""
    return hashlib.sha256(traffic.model_dump_json().encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class TrafficFile:
    path: Path

    def read(self) -> Traffic:
        return Desired.parse(self.path.read_bytes()).traffic

    def write(self, traffic: Traffic, expected: str | None = None) -> None:
        """Replaces the traffic; of two writers at once the second sees what the first wrote.

        Raises:
            Stale: `expected` is given and is not the revision of what is there.
        """
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if expected is not None and expected != revision(self.read()):
                raise Stale(f"the traffic's revision is {revision(self.read())}, not {expected}")
            write_atomically(self.path, Desired(traffic).to_json())
