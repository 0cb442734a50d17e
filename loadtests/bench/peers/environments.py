"""Environments of peers whose packages contradict ours: made once, by pip, from pinned lists beside this.

Does not belong here: what runs in them.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / ".venv-bench"

INSTALL_S = 900
"""Seconds for one environment; torch alone is several hundred MB."""


class NoEnvironment(Exception):
    """It is not there or cannot be made; the text says why in one line."""


def requirements(name: str) -> Path:
    return Path(__file__).with_name(f"requirements-{name}.txt")


def environment(name: str, *, make: bool, folder: Path = FOLDER) -> Path:
    """The interpreter of the environment `name`, which holds exactly what `requirements-<name>.txt` says.

    Args:
        make: builds it where it is missing or holds another list; minutes.

    Raises:
        NoEnvironment: it is missing and not to be made, or pip failed. Nothing half made is left.
    """
    wanted = requirements(name).read_bytes()
    home = folder / f"{name}-{hashlib.sha256(wanted).hexdigest()[:12]}"
    python, complete = home / "bin" / "python", home / "complete"
    if complete.exists():
        return python
    if not make:
        raise NoEnvironment(f"{home} is not there; a full run makes it")
    shutil.rmtree(home, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    pip = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile")
    try:
        _run(sys.executable, "-m", "venv", home)
        _run(*pip, "--requirement", requirements(name))
    except NoEnvironment:
        shutil.rmtree(home, ignore_errors=True)
        raise
    complete.touch()
    return python


def _run(*command: str | Path) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoEnvironment(f"{command[0]}: {error}") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
        raise NoEnvironment(said[-1])
