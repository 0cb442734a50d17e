"""A data set at a URL that fsspec reads: copied to this machine first, whole or not at all.

Does not belong here: MovieLens by name (`sources`), and what is in the files.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from features.progress import Step
from training.data.manifest import DataError

MAX_BYTES = 32 << 30
"""Of all files of one data set: ten times the largest MovieLens. A folder above it may be a whole bucket."""

MAX_FILES = 64
"""In one data set's folder; the largest layout has eight."""

DEADLINE_S = 3600.0
"""For one data set in all: 32 GB at 10 MB/s."""

_CHUNK = 1 << 20
_OWN = frozenset(
    f"{name}{end}" for name in ("interactions", "items", "users") for end in (".csv", ".parquet")
)
_STAMPS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")
"""By what file systems tell that a file has changed."""


@dataclass(frozen=True, slots=True)
class Remote:
    """What is at a URL: `files` are names below `root`, with bytes and what changes when they do."""

    url: str
    root: str
    files: tuple[tuple[str, int, str], ...]

    def identity(self) -> dict[str, object]:
        """JSON values that are equal where the data would be."""
        return {"path": redacted(self.url), "files": [list(file) for file in self.files]}


def is_url(location: str) -> bool:
    return "://" in location


def redacted(url: str) -> str:
    """The URL without user, password and query, which may hold secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:  # a bracket in the host: what stands where cannot be told
        return f"{url.partition('://')[0]}://…"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def look(url: str) -> Remote:
    """What is at the URL of a zip, or of a folder with tables.

    Raises:
        DataError: it cannot be read, holds nothing, or holds too much.
    """
    with _reading(url) as files:
        root = files.root.rstrip("/")
        if files.system.isfile(root):
            found = {root: files.system.info(root)}
            root = root.rpartition("/")[0]
        else:
            found = files.system.find(root, maxdepth=2, detail=True)
    listed = sorted(
        (path[len(root) :].lstrip("/"), int(info.get("size") or 0), _stamp(info))
        for path, info in found.items()
    )
    own = [file for file in listed if file[0] in _OWN]
    if any(name.startswith("interactions.") for name, _, _ in own):
        listed = own
    size = sum(file[1] for file in listed)
    if not listed:
        raise DataError(
            f"{redacted(url)} does not exist, is empty or cannot be reached: --dataset-path names "
            "a folder or a zip"
        )
    if len(listed) > MAX_FILES or size > MAX_BYTES:
        raise DataError(
            f"{redacted(url)} holds {len(listed):,} files of {size:,} bytes, more than the {MAX_FILES} files "
            f"or {MAX_BYTES:,} bytes of a data set: name the folder with the tables"
        )
    return Remote(url, root, tuple(listed))


def copied(remote: Remote, cache: Path, progress: Step) -> Path:
    """The data set on this machine: a folder, or a zip. The copy made last is kept, and used again.

    Raises:
        DataError: it cannot be copied, or takes too long; nothing half-copied remains.
    """
    digest = hashlib.sha256(json.dumps(remote.identity()).encode()).hexdigest()[:16]
    name = PurePosixPath(urlsplit(remote.url).path or urlsplit(remote.url).netloc).name or "data"
    place = cache / "remote" / digest
    whole = place / name
    if not whole.exists():
        partial = place.with_name(f".{digest}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            _copy(remote, partial / name, progress)
            shutil.rmtree(place, ignore_errors=True)
            partial.rename(place)
        except OSError as error:
            raise DataError(f"{place} cannot be written ({error}): choose another --home") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        for other in place.parent.iterdir():
            if other != place:
                shutil.rmtree(other, ignore_errors=True)
    return whole


def _copy(remote: Remote, target: Path, progress: Step) -> None:
    total, done, deadline = sum(size for _, size, _ in remote.files), 0, time.monotonic() + DEADLINE_S
    alone = len(remote.files) == 1 and remote.files[0][0] == target.name
    for name, _, _ in remote.files:
        path = target if alone else target / name
        if not path.resolve().is_relative_to(target.resolve()):
            raise DataError(f"{redacted(remote.url)} holds a file {name!r} outside of it")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out, _reading(remote.url) as files, files.open(remote.root, name) as stream:
            while chunk := stream.read(_CHUNK):
                done += len(chunk)
                if done > MAX_BYTES or time.monotonic() > deadline:
                    raise DataError(
                        f"{redacted(remote.url)}: more than {MAX_BYTES:,} bytes or {DEADLINE_S:.0f} s: "
                        "copy the files by other means and name the folder"
                    )
                out.write(chunk)
                progress(f"copying {redacted(remote.url)}", done, total)


@dataclass(frozen=True, slots=True)
class _Files:
    system: Any
    root: str

    def open(self, folder: str, name: str) -> Any:
        return self.system.open(f"{folder}/{name}" if folder else name, "rb")


@contextmanager
def _reading(url: str) -> Iterator[_Files]:
    """The file system of a URL; whatever it raises becomes a `DataError`."""
    import fsspec  # here, so that finding the data already there does not wait for it

    try:
        yield _Files(*fsspec.core.url_to_fs(url))
    except DataError:
        raise
    except Exception as error:  # each file system has errors of its own
        said = " ".join(str(error).replace(url, redacted(url)).split()) or type(error).__name__
        raise DataError(f"{redacted(url)} cannot be read ({said})") from error


def _stamp(info: dict[str, Any]) -> str:
    return next((str(info[name]) for name in _STAMPS if info.get(name) is not None), "")
