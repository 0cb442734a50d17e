"""The machine a section was measured on, for the page that shows it.

Does not belong here: anything that decides how a measurement is made.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

LIBRARIES = ("ray", "feast", "torch", "numpy", "fastapi", "uvicorn", "pydantic", "redis")
"""Those whose version moves a figure."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Attributes:
    cpu: its model. cores: those this process may run on. memory: of the machine, bytes.
    gpu: its model, or "" where CUDA is not there.
    libraries: name → version, of those that are installed.
    """

    cpu: str
    cores: int
    memory: int
    gpu: str
    kernel: str
    python: str
    libraries: dict[str, str]


@cache
def machine() -> Machine:
    import torch  # seconds, and only what runs a suite describes a machine

    libraries = {}
    for name in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            libraries[name] = importlib.metadata.version(name)
    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory=psutil.virtual_memory().total,
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        kernel=platform.release(),
        python=platform.python_version(),
        libraries=libraries,
    )


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
