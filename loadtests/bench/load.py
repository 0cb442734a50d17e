"""Load on a running server, by well-kept generators in processes of their own: wrk for a closed loop, Locust
for an open one.

In a closed loop each connection asks again once it is answered, so a slow server is asked less. In an open
loop requests come at their own rate, as from many people, and a server too slow for it is late for all.
Does not belong here: starting servers, and what is asked (`loadtests.traffic`).
"""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

SCRIPT = Path(__file__).with_name("wrk.lua")
LOCUSTFILE = Path(__file__).with_name("open_loop.py")

CONNECTIONS_A_THREAD = 32
"""Of wrk. One thread sends tens of thousands of requests a second; more take cores from the server."""
MAX_THREADS = 2

PERIOD_S = 1.0
"""Between two requests of one person of the open loop. So long as answers take less, nobody waits for one
before asking; as everybody's first moment is drawn at random, requests come nearly as a Poisson process."""
WARM_S = 1.0
"""Seconds of an open loop, once everybody has begun, that are not counted: connections open in them."""

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
    command = [
        *(wrk, "--connections", str(concurrency), "--threads", str(_threads(concurrency))),
        *("--duration", f"{whole}s", "--timeout", f"{ANSWER_S}s", "--script", str(SCRIPT)),
        *(url, "--", str(bodies)),
    ]
    return from_wrk(_last_line(_run(command, whole)))


def from_wrk(line: str) -> Load:
    """What `wrk.lua` wrote last.

    Raises:
        LoadError: it is not that line, or nothing was answered.
    """
    try:
        told: Mapping[str, int] = json.loads(line)
        if not told["requests"]:
            raise LoadError(f"the server answered nothing: {line}")
        return Load(
            requests_per_s=told["requests"] / told["duration_us"] * 1e6,
            p50_ms=told["p50_us"] / 1e3,
            p90_ms=told["p90_us"] / 1e3,
            p99_ms=told["p99_us"] / 1e3,
            errors=sum(told[kind] for kind in ("connect", "read", "write", "timeout")),
            non_2xx=told["status"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise LoadError(f"wrk gave no figures but {line!r}") from error


def open(url: str, bodies: Path, rate: float, seconds: float) -> Load:
    """`rate` requests a second, whether answered or not. Read it as `load.open`.

    Arguments as `closed`. Locust sends about a thousand requests a second and core at most; where
    `requests_per_s` stays below `rate`, server or generator could not keep up and the latencies are too good.

    Raises:
        GeneratorMissing: Locust is not installed.
        LoadError: it gave no figures, or nothing was answered.
    """
    if importlib.util.find_spec("locust") is None:
        raise GeneratorMissing("Locust is not installed: pip install '.[bench]'")
    people = max(1, round(rate * PERIOD_S))
    lasting = PERIOD_S + WARM_S + seconds + WARM_S  # Locust counts from a little before the first request
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        parts = urlsplit(url)
        command = [
            *(sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE), "--headless"),
            *(
                "--only-summary",
                "--loglevel",
                "ERROR",
                "--exit-code-on-error",
                "0",
                "--host",
                f"{parts.scheme}://{parts.netloc}",
            ),
            *("--users", str(people), "--spawn-rate", str(people)),
            *("--run-time", f"{math.ceil(lasting)}s", "--stop-timeout", str(ANSWER_S)),
            *("--path", parts.path, "--bodies", str(bodies), "--period", str(people / rate)),
            *("--warm", str(PERIOD_S + WARM_S), "--seconds", str(seconds), "--report", str(report)),
        ]
        said = _run(command, lasting)
        try:
            found = json.loads(report.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise LoadError(f"Locust gave no figures: {said[-500:]}") from error
    return from_latencies(found["latencies_ms"], found["seconds"], found["errors"], found["non_2xx"])


def from_latencies(latencies_ms: Sequence[float], seconds: float, errors: int, non_2xx: int) -> Load:
    """Args:
    latencies_ms: of every answer that came.

    Raises:
        LoadError: there is none.
    """
    if not latencies_ms:
        raise LoadError(f"the server answered nothing ({errors} errors)")
    ordered = sorted(latencies_ms)
    return Load(
        requests_per_s=len(ordered) / seconds,
        p50_ms=_quantile(ordered, 0.5),
        p90_ms=_quantile(ordered, 0.9),
        p99_ms=_quantile(ordered, 0.99),
        errors=errors,
        non_2xx=non_2xx,
    )


def _quantile(ordered: Sequence[float], q: float) -> float:
    """The smallest value that at least a share `q` of all does not exceed."""
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


def _threads(concurrency: int) -> int:
    return min(MAX_THREADS, max(1, concurrency // CONNECTIONS_A_THREAD))


def _run(command: Sequence[str], seconds: float) -> str:
    """What the generator said. It is killed where it does not end."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + ENDING_S)
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"{Path(command[0]).name} did not end within {error.timeout:.0f} s") from None
    if done.returncode and not done.stdout:
        raise LoadError(f"{Path(command[0]).name}: {' '.join(done.stderr.split())[-500:]}")
    return done.stdout + done.stderr


def _last_line(text: str) -> str:
    """The last line of JSON, or all that was said."""
    lines = [line for line in text.splitlines() if line.startswith("{")]
    return lines[-1] if lines else " ".join(text.split())[-500:]
