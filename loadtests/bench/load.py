"""Load on a running server by wrk, in a process of its own: a closed loop, in which each connection asks
again once it is answered, so that a slow server is asked less. Load at a rate of its own is `make load`'s.

Does not belong here: starting servers, and what is asked (`loadtests.traffic`).
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("wrk.lua")

CONNECTIONS_A_THREAD = 32
"""Of wrk. One thread sends tens of thousands of requests a second; more take cores from the server."""
MAX_THREADS = 2

ANSWER_S = 10
"""Seconds after which a request has timed out."""
ENDING_S = 60.0
"""Seconds a generator may take to start and to end, beyond the load itself."""


class LoadError(Exception):
    """The load could not be made, or the generator gave no figures; the text says what to do."""


class GeneratorMissing(LoadError):
    """A generator is not installed. A suite that needs it is skipped."""


@dataclass(frozen=True, slots=True)
class Load:
    """Attributes:
    requests_per_s: answered, whatever their status.
    p50_ms, p90_ms, p99_ms: from sending a request to having read its answer.
    errors: connections refused or broken, and answers that did not come in time.
    non_2xx: answers with another status (wrk counts those above 399).
    """

    requests_per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    errors: int
    non_2xx: int


def closed(url: str, bodies: Path, concurrency: int, seconds: float) -> Load:
    """`concurrency` connections, each asking again as soon as it is answered.

    Args:
        url: of the endpoint, path included.
        bodies: a file with one JSON body a line.
        seconds: rounded up to whole ones, as wrk counts.

    Raises:
        GeneratorMissing: wrk is not installed.
        LoadError: it gave no figures, or nothing was answered.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise GeneratorMissing("wrk is not installed: apt-get install wrk, or brew install wrk")
    whole = max(1, math.ceil(seconds))
    threads = min(MAX_THREADS, max(1, concurrency // CONNECTIONS_A_THREAD))
    command = [
        *(wrk, "--connections", str(concurrency), "--threads", str(threads)),
        *("--duration", f"{whole}s", "--timeout", f"{ANSWER_S}s", "--script", str(SCRIPT)),
        *(url, "--", str(bodies)),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=whole + ENDING_S)
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"wrk did not end within {error.timeout:.0f} s") from None
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return from_wrk(lines[-1] if lines else done.stdout + done.stderr)


def from_wrk(line: str) -> Load:
    """What `wrk.lua` wrote last.

    Raises:
        LoadError: it is not that line, or nothing was answered.
    """
    try:
        counted: Mapping[str, int] = json.loads(line)
        if not counted["requests"]:
            raise LoadError(f"the server answered nothing: {line}")
        return Load(
            requests_per_s=counted["requests"] / counted["duration_us"] * 1e6,
            p50_ms=counted["p50_us"] / 1e3,
            p90_ms=counted["p90_us"] / 1e3,
            p99_ms=counted["p99_us"] / 1e3,
            errors=sum(counted[kind] for kind in ("connect", "read", "write", "timeout")),
            non_2xx=counted["status"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise LoadError(f"wrk gave no figures but {line!r}") from error
