"""One wheel from a package index over HTTPS, for where there is no pip: an image, for example.

Speaks the simple repository API, as JSON or as HTML, of the index that `PIP_INDEX_URL` names.
"""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag, urljoin

from features.progress import Step
from training.data.download import Page, download, page
from training.data.manifest import DataError
from training.data.remote import redacted

MAX_WHEEL_BYTES = 64 << 20
"""The wheel wanted has 2 MB."""

_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


def fetch_wheel_file(index: str, project: str, filename: str, cache: Path, progress: Step) -> Path:
    """The wheel `filename` of `project`, downloaded into `cache` and checked against the index's SHA-256, if
    it has one.

    Args:
        index: URL of a simple index, with user and password if it needs them.

    Raises:
        DataError: the index cannot be asked, or does not have the file; nothing half-loaded remains.
    """
    address = f"{index.rstrip('/')}/{project}/"
    found = page(address, _ACCEPT)
    links = _from_json(found) if "json" in found.kind else _from_html(found)
    if filename not in links:
        raise DataError(f"{redacted(address)} does not have {filename}")
    url, sha256 = links[filename]
    target = cache / filename
    return download(urljoin(found.url, url), target, progress, MAX_WHEEL_BYTES, "sha256", sha256)


_Link = tuple[str, str | None]
"""URL of a file, perhaps relative, and its SHA-256 if the index tells it."""


def _from_json(found: Page) -> dict[str, _Link]:
    try:
        files = json.loads(found.text)["files"]
        return {file["filename"]: (file["url"], (file.get("hashes") or {}).get("sha256")) for file in files}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{redacted(found.url)} is no page of a package index") from error


def _from_html(found: Page) -> dict[str, _Link]:
    anchors = _Links()
    anchors.feed(found.text)
    links: dict[str, _Link] = {}
    for link in anchors.found:
        url, fragment = urldefrag(link)
        sha256 = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else None
        links[url.rpartition("/")[2]] = (url, sha256)
    return links


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]
