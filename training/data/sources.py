"""Where data sets come from by name, and folders and archives read alike.

Standard library only, but for the download itself. Does not belong here: what is in the files.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path

from features.progress import Step
from training.data.manifest import DataError

GROUPLENS = "https://files.grouplens.org/datasets/movielens"
CHECKSUMMED: Mapping[str, bool] = {
    "ml-100k": True,
    "ml-latest-small": False,
    "ml-1m": True,
    "ml-10m": True,
    "ml-20m": True,
    "ml-25m": True,
    "ml-32m": True,
}
"""Data sets of GroupLens, and whether an `.md5` is published beside the zip. The `latest` sets change from
time to time and have none: there the checksums inside the zip must do."""

WHEEL = "recbole==1.2.1"
"""Carries MovieLens-100K as plain files. Downloaded and read as a zip; never installed or imported."""

WHEEL_FOLDER = "recbole/dataset_example/ml-100k/"
WHEEL_SHA256: Mapping[str, str] = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
    "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
}

PIP_TIMEOUT_S = 120.0
"""For 2 MB from a package index; long enough for a slow line, short enough to still try GroupLens."""


@dataclass(frozen=True, slots=True)
class Found:
    """A data set's folder, and what to say about where it came from."""

    folder: Traversable
    source: str


def open_folder(path: Path) -> Traversable:
    """The folder with the files: `path` itself, or the only folder inside it; `path` may be a zip.

    Raises:
        DataError: there is no such path, or it is neither a folder nor a zip.
    """
    if path.is_dir():
        return _only_folder(path)
    if not path.exists():
        raise DataError(f"{path} does not exist: --dataset-path names a folder or a zip")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is neither a folder nor a zip")
    return _only_folder(zipfile.Path(path))


def fetch(name: str, cache: Path, progress: Step, base_url: str = GROUPLENS) -> Found:
    """A MovieLens data set, downloaded into `cache` unless it is there.

    Raises:
        DataError: the name is unknown, or the download failed; nothing half-loaded remains.
    """
    if name not in CHECKSUMMED:
        raise DataError(f"unknown data set {name!r}: choose one of {', '.join(CHECKSUMMED)}, synthetic")
    url = f"{base_url}/{name}.zip"
    if name != "ml-100k":
        return Found(open_folder(fetch_zip(url, cache, progress, CHECKSUMMED[name])), url)
    try:
        return Found(fetch_wheel(cache, progress), f"{WHEEL}, {WHEEL_FOLDER}")
    except DataError as wheel:
        try:
            return Found(open_folder(fetch_zip(url, cache, progress, CHECKSUMMED[name])), url)
        except DataError as archive:
            raise DataError(f"ml-100k: {wheel}; {archive}") from archive


def fetch_wheel(cache: Path, progress: Step) -> Traversable:
    """MovieLens-100K inside the wheel named above, its files verified."""
    found = next(iter(cache.glob("recbole-*.whl")), None)
    if found is None:
        progress(f"downloading {WHEEL}", 0, None)
        index = os.environ.get("PIP_INDEX_URL")
        found = _from_index(index, cache, progress) if index else _pip_download(WHEEL, cache)
    try:
        folder = zipfile.Path(found, WHEEL_FOLDER)
        for name, expected in WHEEL_SHA256.items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected:
                raise DataError(f"{name} in {found.name} is not the file expected; remove {found}")
    except (zipfile.BadZipFile, OSError, KeyError) as error:
        raise DataError(f"{found.name} does not hold MovieLens-100K ({error}); remove {found}") from error
    return folder


def fetch_zip(url: str, cache: Path, progress: Step, checksummed: bool) -> Path:
    """The archive at `url`, verified: by the `.md5` published beside it, or by its own checksums."""
    from training.data.download import MAX_ARCHIVE_BYTES, OFFLINE, download, page

    target = cache / url.rsplit("/", 1)[-1]
    if target.exists():
        return target
    expected = None
    if checksummed:
        found = re.search(r"\b[0-9a-fA-F]{32}\b", page(f"{url}.md5").text)
        if not found:
            raise DataError(f"{url}.md5 holds no MD5 checksum: {OFFLINE}")
        expected = found[0]
    archive = download(url, target.with_suffix(".unchecked"), progress, MAX_ARCHIVE_BYTES, "md5", expected)
    try:
        _require_whole(url, archive)
        archive.rename(target)
    finally:
        archive.unlink(missing_ok=True)
    return target


def _require_whole(url: str, path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except zipfile.BadZipFile as error:
        raise DataError(f"{url} is not a zip archive: pass --dataset-path DIR with the files") from error
    if damaged:
        raise DataError(f"{damaged} in {url} is damaged: try again")


def _from_index(index: str, cache: Path, progress: Step) -> Path:
    """Over HTTPS; by pip, which knows more ways to sign in, where that fails and there is one."""
    from training.data.package_index import fetch_wheel_file

    try:
        project, version = WHEEL.split("==")
        return fetch_wheel_file(index, project, f"{project}-{version}-py3-none-any.whl", cache, progress)
    except DataError:
        if importlib.util.find_spec("pip") is None:
            raise
        return _pip_download(WHEEL, cache)


def _pip_download(requirement: str, cache: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise DataError(f"there is no pip to download {requirement}: name a package index in PIP_INDEX_URL")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
        options = ["--no-input", "--disable-pip-version-check", "--dest", scratch, requirement]
        try:
            done = subprocess.run(
                command + options, capture_output=True, text=True, timeout=PIP_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise DataError(f"pip took more than {PIP_TIMEOUT_S:.0f} s to download {requirement}") from error
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
            raise DataError(f"pip could not download {requirement} ({reason})")
        return wheels[0].rename(cache / wheels[0].name)


def _only_folder(folder: Traversable) -> Traversable:
    inside = [entry for entry in folder.iterdir() if not entry.name.startswith((".", "__MACOSX"))]
    return _only_folder(inside[0]) if len(inside) == 1 and inside[0].is_dir() else folder
