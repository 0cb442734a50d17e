"""Load for an arm with a cache: all hits, seven hits in ten, and ten thousand people who mostly read.

Does not belong here: starting the arm.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urljoin

import httpx

from loadtests.bench import load
from loadtests.bench.load import Load

IDLE = Path(__file__).with_name("idle.lua")

REPEATED = 0.7
"""Share of the mixture that was asked before."""

EXCLUDED = 3
"""Ids excluded by a request that was not: three of a thousand items make 10⁸ different ones for each user."""

CONNECTIONS = 10_000
OPEN_FILES = CONNECTIONS + 2_000
"""What a process needs to hold that many connections, and its own files beside."""

IDLE_S = 20
"""Seconds the connections stay open."""


def raise_open_files() -> bool:
    """Lets this process and those it starts open `OPEN_FILES`; False where the system's limit is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES:
        return False
    top = OPEN_FILES * 2 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, top), hard))
    return True


def partly_new(bodies: Sequence[str], item_ids: Sequence[str], seed: int, repeated: float) -> list[str]:
    """The bodies, of which 1 - `repeated` exclude items that nobody excluded before, so that they are
    answered anew and cost a whole run of the pipeline."""
    rng = random.Random(seed)
    return [
        body if rng.random() < repeated else _new(body, rng.sample(item_ids, EXCLUDED)) for body in bodies
    ]


def _new(body: str, exclude: Sequence[str]) -> str:
    return json.dumps({**json.loads(body), "exclude_ids": list(exclude)})


def lookups(url: str) -> tuple[float, float]:
    """Hits and misses so far, from the service's own metrics."""
    with httpx.Client(timeout=load.ANSWER_S, trust_env=False) as client:
        return parse_lookups(client.get(urljoin(url, "/metrics")).raise_for_status().text)


def parse_lookups(exposition: str) -> tuple[float, float]:
    """Hits and misses in Prometheus' text format, of all replicas."""
    found = {"hit": 0.0, "miss": 0.0}
    for result, value in re.findall(
        r'^marquee_cache_lookups_total\{[^}]*result="(hit|miss)"[^}]*\} (\S+)$', exposition, re.MULTILINE
    ):
        found[result] += float(value)
    return found["hit"], found["miss"]


def many_connections(url: str, bodies: Path) -> Load:
    """`CONNECTIONS` stay open, each asking about twice a minute.

    Raises:
        load.LoadError: wrk gave no figures.
    """
    wrk = shutil.which("wrk") or "wrk"
    command = [
        *(wrk, "--connections", str(CONNECTIONS), "--threads", "2", "--duration", f"{IDLE_S}s"),
        *("--timeout", f"{load.ANSWER_S}s", "--script", str(IDLE), url, "--", str(bodies)),
    ]
    env = {**os.environ, "WRK_SCRIPT": str(load.SCRIPT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=IDLE_S + load.ENDING_S)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return load.from_wrk(lines[-1] if lines else done.stdout + done.stderr)
