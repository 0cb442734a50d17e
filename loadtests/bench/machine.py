"""The machine a section was measured on, for the page that shows it.

Does not belong here: anything that decides how a measurement is made.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil
import torch

LIBRARIES = ("ray", "feast", "torch", "numpy", "fastapi", "uvicorn", "pydantic", "redis")
"""Those whose version moves a figure."""

BANDWIDTH_BYTES = 512 << 20
"""Read once a pass: far above any cache, so that every pass comes from memory."""
BANDWIDTH_PASSES = 20
"""A second or two; one undisturbed pass is enough."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Attributes:
    cpu: its model. cores: those this process may run on. memory: of the machine, bytes.
    gpu: its model, or "" where CUDA is not there.
    bandwidth: of reading memory on all those cores, bytes/s (`read_bandwidth`).
    libraries: name → version.
    """

    cpu: str
    cores: int
    memory: int
    gpu: str
    kernel: str
    python: str
    libraries: dict[str, str]
    bandwidth: float


@cache
def machine() -> Machine:
    """Takes a few seconds, once."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(
        cpu=_cpu_model(),
        cores=cores,
        memory=psutil.virtual_memory().total,
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        kernel=platform.release(),
        python=platform.python_version(),
        libraries=dict(_versions()),
        bandwidth=read_bandwidth(cores),
    )


def read_bandwidth(threads: int, size: int = BANDWIDTH_BYTES, passes: int = BANDWIDTH_PASSES) -> float:
    """Bytes read from memory a second, by `threads` threads: the fastest of several sums of one float32 array
    that no cache holds. As in STREAM the best pass counts, since what disturbs a pass can only slow it.

    McCalpin, "Memory bandwidth and machine balance in current high performance computers", 1995.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        array = torch.ones(size // 4, dtype=torch.float32)
        return size / min(_seconds(array) for _ in range(passes))
    finally:
        torch.set_num_threads(before)


def _seconds(array: torch.Tensor) -> float:
    started = time.perf_counter()
    array.sum().item()
    return time.perf_counter() - started


def _versions() -> Iterator[tuple[str, str]]:
    """Of those that are installed."""
    for name in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)


def _cpu_model() -> str:
    try:
        return next(_models(Path("/proc/cpuinfo").read_text(encoding="utf-8")), platform.machine())
    except OSError:
        return platform.processor() or platform.machine()


def _models(cpuinfo: str) -> Iterator[str]:
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            yield value.strip()
