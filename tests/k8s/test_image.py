"""What is taken out of the image's environment, and that the check after it notices what is missing."""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path

import pytest

from k8s.image import TOOLS, UNUSED, check, prune


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    venv.create(tmp_path / "env", with_pip=False)
    return tmp_path / "env"


def site(environment: Path) -> Path:
    (found,) = environment.glob("lib/python3*/site-packages")
    return found


def install(environment: Path, name: str) -> Path:
    """A distribution of one module, as pip leaves it."""
    module, info = site(environment) / f"{name}.py", site(environment) / f"{name}-1.0.dist-info"
    module.write_text("")
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text(
        f"{name}.py,,\n{name}-1.0.dist-info/METADATA,,\n{name}-1.0.dist-info/RECORD,,\n"
    )
    (info / "INSTALLER").write_text("pip\n")
    return module


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x" * 1_000)


def test_tools_and_what_no_pod_runs_go_and_all_else_stays(environment: Path) -> None:
    tool, library = install(environment, "pytest"), install(environment, "feast")
    packages = site(environment)
    gone = ("torch/bin/test_jit", "torch/include/a/b.h", "feast/ui/x.js", "sympy/core/tests/test_a.py")
    kept = (
        "torch/bin/torch_shm_manager",
        "torch/lib/a.so",
        "numpy/_core/tests/_natype.py",
        "sympy/core/a.py",
    )
    put(packages, *gone, *kept)
    assert prune(environment) >= 1_000 * len(gone)
    assert not tool.exists()
    assert library.exists()
    assert not [name for name in gone if (packages / name).exists()]
    assert not [name for name in kept if not (packages / name).exists()]
    assert prune(environment) == 0, "a second time there is nothing left"


def test_an_environment_that_lost_something_is_refused(environment: Path) -> None:
    for command in ("marquee", "ray", "feast", "locust"):
        script = environment / "bin" / command
        script.write_text("#!/bin/sh\n")
        script.chmod(0o755)
    with pytest.raises(subprocess.CalledProcessError):
        check(environment)


def test_what_is_no_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not enough values"):
        prune(tmp_path)


def test_nothing_of_ours_imports_a_tool() -> None:
    root = Path(__file__).resolve().parents[2]
    for package in ("features", "training", "serving", "k8s", "loadtests"):
        for path in (root / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert not [tool for tool in TOOLS if f"import {tool}" in text or f"from {tool}" in text], path
    assert len(set(UNUSED)) == len(UNUSED)
