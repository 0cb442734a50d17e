"""Takes out of an image's environment what a pod never runs, and checks that the rest works: two steps of the
Dockerfile, `python k8s/image.py prune|check /opt/marquee`.

feast asks for SQLAlchemy's type checker, locust for pytest, ray for virtualenv: tools of those who write or
build. Packages carry their tests, headers and web pages besides. Standard library only.
Does not belong here: what is installed (pyproject.toml).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

TOOLS = {
    "mypy": "feast, which asks for SQLAlchemy[mypy]",
    "mypy_extensions": "mypy",
    "ast_serialize": "mypy",
    "librt": "mypy",
    "pytest": "locust, for load tests written as pytest's",
    "iniconfig": "pytest",
    "pluggy": "pytest",
    "virtualenv": "ray, for runtime environments that install packages",
    "distlib": "virtualenv",
    "python_discovery": "virtualenv",
    "setuptools": "torch, to compile extensions",
}
"""Distribution → who asks for it. Without them locust's pytest style, Ray's `runtime_env={"pip": …}` and
PyTorch's C++ extensions do not work; Marquee uses none of the three."""

UNUSED = (
    "torch/bin/*Test",
    "torch/bin/protoc*",
    "torch/bin/test_*",
    "torch/include",
    "torch/test",
    "ray/jars",
    "feast/ui",
    "kubernetes/aio",
    "onnx/backend/test",
    "pandas/tests",
    "pyarrow/include",
    "pyarrow/tests",
)
"""Programs that test PyTorch (torch_shm_manager, beside them, it needs), headers, Ray for Java, Feast's web
page, a second client of Kubernetes, cases that test runtimes of ONNX."""

TESTS_OF = ("dask", "gevent", "mpmath", "networkx", "sympy", "zope")
"""Packages with folders of tests all through them. Not numpy: numpy.testing reads its own."""


COMMANDS = ("marquee --help", "ray --help", "feast --help", "locust --help")
IMPORTS = (
    "ray.serve, ray.train.torch, ray.dashboard.agent, ray._private.runtime_env.agent.main",
    "feast.infra.online_stores.redis, kubernetes.client, pyarrow.parquet, pandas, faiss, s3fs, gcsfs",
    "serving.deployments.ingress, serving.deployments.stage_replica, training.train, training.trainer",
    "k8s.controller",
    "loadtests.locustfile",
)
"""What pods run and import: Ray's own processes, replicas, jobs, the controller, a load test."""

CHECK_S = 300
"""Seconds for one of them; a cold import of PyTorch takes ten on a slow disk."""


def check(environment: Path) -> None:
    """Runs every command and imports all that pods import.

    Raises:
        CalledProcessError: one of them fails, which it has said itself.
    """
    for command in COMMANDS:
        program, *arguments = command.split()
        _run(environment, program, *arguments)
    for names in IMPORTS:
        _run(environment, "python", "-c", f"import {names}")


def _run(environment: Path, program: str, *arguments: str) -> None:
    command = [str(environment / "bin" / program), *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=CHECK_S)


def prune(environment: Path) -> int:
    """Removes all of that from a virtual environment; bytes freed beside the tools.

    Raises:
        ValueError: it is no virtual environment.
        CalledProcessError: pip cannot remove a tool.
    """
    (site,) = environment.glob("lib/python3*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "uninstall", "--yes"]
    subprocess.run([*pip, "--quiet", *TOOLS], check=True, timeout=600)
    return sum(map(_remove, _unused(site)))


def _unused(site: Path) -> list[Path]:
    found = [path for pattern in UNUSED for path in site.glob(pattern)]
    tests = [path for package in TESTS_OF for path in (site / package).rglob("tests") if path.is_dir()]
    return [*found, *(path for path in tests if not any(parent in tests for parent in path.parents))]


def _remove(path: Path) -> int:
    inside = [path, *path.rglob("*")] if path.is_dir() else [path]
    size = sum(one.lstat().st_size for one in inside)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    return size


if __name__ == "__main__":
    what, where = sys.argv[1:]
    if what == "prune":
        print(f"{prune(Path(where)) / 1e6:,.0f} MB removed beside the tools")
    else:
        check(Path(where))
