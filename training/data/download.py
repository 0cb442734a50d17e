"""One file over HTTP: bounded in time and size, checked, and there whole or not at all."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import NamedTuple

import httpx

from features.progress import Step
from training.data.manifest import DataError
from training.data.remote import redacted

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
DOWNLOAD_DEADLINE_S = 3600.0
"""For one archive in all: 250 MB at 70 kB/s."""

MAX_PAGE_BYTES = 16 << 20
"""Of a checksum, or of a package index's page on one project: the largest projects have a few MB."""

PAGE_DEADLINE_S = 120.0
"""For one such page."""

MAX_ARCHIVE_BYTES = 4 << 30
"""Of one archive: the largest MovieLens has 270 MB."""

OFFLINE = "pass --dataset-path DIR with the files, or try again with a network"


def _client() -> httpx.Client:
    timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    return httpx.Client(timeout=timeout, follow_redirects=True)


class Page(NamedTuple):
    """A small answer: its URL after redirections, its type, and its text."""

    url: str
    kind: str
    text: str


def page(url: str, accept: str = "*/*") -> Page:
    """What a URL answers.

    Raises:
        DataError: it cannot be had, or has more than `MAX_PAGE_BYTES`.
    """
    content, deadline = bytearray(), time.monotonic() + PAGE_DEADLINE_S
    try:
        with _client() as asked, asked.stream("GET", url, headers={"Accept": accept}) as response:
            response.raise_for_status()
            for chunk in response.iter_bytes(1 << 16):
                content += chunk
                if len(content) > MAX_PAGE_BYTES or time.monotonic() > deadline:
                    raise DataError(
                        f"{redacted(url)} has more than {MAX_PAGE_BYTES:,} bytes, or took more than "
                        f"{PAGE_DEADLINE_S:.0f} s: {OFFLINE}"
                    )
            kind = response.headers.get("content-type", "")
            return Page(str(response.url), kind, content.decode("utf-8", "replace"))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _refusal(url, error) from error


def download(
    url: str, target: Path, progress: Step, most: int, algorithm: str = "md5", digest: str | None = None
) -> Path:
    """`url` as the file `target`, unless it is there.

    Args:
        most: bytes it may have.
        algorithm, digest: what it must hash to, in hex; None: anything.

    Raises:
        DataError: it cannot be had, is too large, or is another file; nothing half-loaded remains.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    hashed, deadline = hashlib.new(algorithm, usedforsecurity=False), time.monotonic() + DOWNLOAD_DEADLINE_S
    try:
        with _client() as asked, asked.stream("GET", url) as response, partial.open("wb") as out:
            response.raise_for_status()
            total = int(response.headers.get("content-length", 0)) or None
            for chunk in response.iter_bytes(1 << 18):
                if time.monotonic() > deadline:
                    raise DataError(f"{redacted(url)} took more than {DOWNLOAD_DEADLINE_S:.0f} s: {OFFLINE}")
                hashed.update(chunk)
                out.write(chunk)
                if out.tell() > most:
                    raise DataError(f"{redacted(url)} has more than {most:,} bytes")
                progress(f"downloading {url.rsplit('/', 1)[-1]}", out.tell(), total)
        if digest is not None and hashed.hexdigest() != digest.lower():
            raise DataError(
                f"{redacted(url)} has {algorithm.upper()} {hashed.hexdigest()}, published is {digest}: "
                "the download is damaged, try again"
            )
        partial.rename(target)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise _refusal(url, error) from error
    finally:
        partial.unlink(missing_ok=True)
    return target


def _refusal(url: str, error: Exception) -> DataError:
    if isinstance(error, httpx.HTTPStatusError):
        return DataError(f"{redacted(url)} answered {error.response.status_code}: {OFFLINE}")
    said = str(error).replace(url, redacted(url)) or type(error).__name__
    return DataError(f"{redacted(url)} cannot be downloaded ({said}): {OFFLINE}")
