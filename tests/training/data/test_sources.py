"""Downloads against a server on loopback, and pip against a folder instead of an index."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from features.progress import silent
from training.data import sources
from training.data.manifest import DataError
from training.data.sources import fetch, fetch_wheel, open_folder


def archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("ml-1m/ratings.dat", "7::1::5::881250949\n" * 1000)
    return out.getvalue()


class Site:
    """What the server answers, path by path: body, status, and how many bytes it claims to send."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[bytes, int, int]] = {}
        self.kinds: dict[str, str] = {}
        self.asked: list[str] = []
        self.url = ""

    def put(
        self, path: str, body: bytes, status: int = 200, claimed: int | None = None, kind: str = "text/plain"
    ) -> None:
        self.kinds[path] = kind
        self.pages[path] = (body, status, len(body) if claimed is None else claimed)


@pytest.fixture
def site() -> Iterator[Site]:
    served = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            body, status, claimed = served.pages.get(self.path, (b"not here", 404, 8))
            self.send_response(status)
            self.send_header("content-length", str(claimed))
            self.send_header("content-type", served.kinds.get(self.path, "text/plain"))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_verified_archive_is_fetched_once(site: Site, tmp_path: Path) -> None:
    body, seen = archive(), []
    site.put("/ml-1m.zip", body)
    site.put("/ml-1m.zip.md5", f"MD5 (ml-1m.zip) = {hashlib.md5(body).hexdigest()}\n".encode())
    found = fetch("ml-1m", tmp_path, lambda *step: seen.append(step), site.url)
    assert (found.folder / "ratings.dat").read_bytes().startswith(b"7::1::5")
    assert found.source == f"{site.url}/ml-1m.zip"
    assert seen[-1] == ("downloading ml-1m.zip", len(body), len(body))
    fetch("ml-1m", tmp_path, silent, site.url)
    assert sorted(site.asked) == ["/ml-1m.zip", "/ml-1m.zip.md5"]


def test_a_set_without_a_published_checksum_is_verified_by_the_zips_own(site: Site, tmp_path: Path) -> None:
    body = archive()
    site.put("/ml-latest-small.zip", body)
    assert fetch("ml-latest-small", tmp_path, silent, site.url).folder.is_dir()
    changed = body.replace(b"7::1::5", b"7::1::4", 1)
    site.put("/ml-latest-small.zip", changed)
    with pytest.raises(DataError, match=r"ratings\.dat in .* is damaged"):
        fetch("ml-latest-small", tmp_path / "other", silent, site.url)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("truncated", "cannot be downloaded"),
        ("wrong checksum", "download is damaged, try again"),
        ("no archive", r"ml-1m\.zip answered 404"),
        ("no checksum", r"ml-1m\.zip\.md5 answered 404"),
        ("checksum page without one", "holds no MD5 checksum"),
        ("not a zip", "is not a zip archive"),
        ("server error", "answered 503"),
    ],
)
def test_a_broken_download_is_one_line_and_leaves_nothing(
    site: Site, tmp_path: Path, fault: str, message: str
) -> None:
    body = b"<html>sign in</html>" if fault == "not a zip" else archive()
    digest = hashlib.md5(b"other" if fault == "wrong checksum" else body).hexdigest().encode()
    if fault == "truncated":
        site.put("/ml-1m.zip", body[: len(body) // 2], claimed=len(body))
    elif fault != "no archive":
        site.put("/ml-1m.zip", body, status=503 if fault == "server error" else 200)
    if fault != "no checksum":
        site.put("/ml-1m.zip.md5", b"sorry" if fault == "checksum page without one" else digest)
    with pytest.raises(DataError, match=message) as refused:
        fetch("ml-1m", tmp_path, silent, site.url)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_download_past_its_deadline_is_given_up(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.data.download.DOWNLOAD_DEADLINE_S", -1.0)
    site.put("/ml-latest-small.zip", archive())
    with pytest.raises(DataError, match="took more than"):
        fetch("ml-latest-small", tmp_path, silent, site.url)
    assert list(tmp_path.iterdir()) == []


def test_an_unreachable_server_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--dataset-path"):
        fetch("ml-25m", tmp_path, silent, "http://127.0.0.1:9")


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(DataError, match="ml-100k, ml-latest-small"):
        fetch("ml-7m", Path("nowhere"), silent)


def test_100k_comes_from_grouplens_where_there_is_no_package_index(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "index"
    empty.mkdir()
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(empty))
    cache = tmp_path / "cache"
    with pytest.raises(
        DataError, match=r"pip could not download recbole==1\.2\.1 .*ml-100k\.zip\.md5 answered 404"
    ):
        fetch("ml-100k", cache, silent, site.url)
    assert list(cache.iterdir()) == []
    body = archive()
    site.put("/ml-100k.zip", body)
    site.put("/ml-100k.zip.md5", hashlib.md5(body).hexdigest().encode())
    assert fetch("ml-100k", cache, silent, site.url).source == f"{site.url}/ml-100k.zip"


@pytest.mark.parametrize("content", ["altered", "absent", "no zip"])
def test_a_wheel_that_is_not_the_one_expected_is_refused(tmp_path: Path, content: str) -> None:
    wheel = tmp_path / "recbole-1.2.1-py3-none-any.whl"
    if content == "no zip":
        wheel.write_bytes(b"half a whe")
    else:
        with zipfile.ZipFile(wheel, "w") as made:
            made.writestr(sources.WHEEL_FOLDER + ("ml-100k.inter" if content == "altered" else "other"), "x")
    with pytest.raises(DataError, match="remove"):
        fetch_wheel(tmp_path, silent)


def test_a_path_that_is_no_folder_and_no_zip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_folder(tmp_path / "nothing")
    (tmp_path / "file").write_text("text")
    with pytest.raises(DataError, match="neither a folder nor a zip"):
        open_folder(tmp_path / "file")


@pytest.fixture
def wheel(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A wheel like the one wanted, which the checks then expect."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        for name in sources.WHEEL_SHA256:
            made.writestr(sources.WHEEL_FOLDER + name, name)
    sums = {name: hashlib.sha256(name.encode()).hexdigest() for name in sources.WHEEL_SHA256}
    monkeypatch.setattr(sources, "WHEEL_SHA256", sums)
    monkeypatch.setattr(sources, "_pip_download", None)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["json", "html", "html without a checksum"])
def test_the_wheel_comes_from_a_package_index_without_pip(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheel: bytes, kind: str
) -> None:
    name, digest = "recbole-1.2.1-py3-none-any.whl", hashlib.sha256(wheel).hexdigest()
    fragment = "" if kind.endswith("checksum") else f"#sha256={digest}"
    page = (
        json.dumps({"files": [{"filename": name, "url": f"../../{name}", "hashes": {"sha256": digest}}]})
        if kind == "json"
        else f'<html><a href="/other-1.0.whl">x</a><a href="../../{name}{fragment}">{name}</a></html>'
    )
    site.put("/simple/recbole/", page.encode(), kind="application/json" if kind == "json" else "text/html")
    site.put(f"/{name}", wheel)
    monkeypatch.setenv("PIP_INDEX_URL", site.url.replace("//", "//me:s3cret@") + "/simple")
    found = fetch("ml-100k", tmp_path, silent, "http://127.0.0.1:9")
    assert (found.folder / "ml-100k.inter").read_bytes() == b"ml-100k.inter"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert site.asked == ["/simple/recbole/", f"/{name}"]


@pytest.mark.parametrize("fault", ["no page", "no file", "other file", "no json", "nobody"])
def test_an_index_that_fails_is_named_without_its_password(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheel: bytes, fault: str
) -> None:
    name = "recbole-1.2.1-py3-none-any.whl"
    page = json.dumps({"files": [{"filename": name, "url": f"/{name}", "hashes": {"sha256": "ab"}}]})
    if fault != "no page":
        text = {"no file": '{"files": []}', "no json": "{"}.get(fault, page)
        site.put("/simple/recbole/", text.encode(), kind="application/json")
    site.put(f"/{name}", wheel)
    url = "http://127.0.0.1:9" if fault == "nobody" else site.url
    monkeypatch.setenv("PIP_INDEX_URL", url.replace("//", "//me:s3cret@") + "/simple")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"ml-100k: .*/(simple/recbole/|recbole-1)") as refused:
        fetch("ml-100k", tmp_path, silent, "http://127.0.0.1:9")
    assert "s3cret" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_without_pip_or_an_index_the_archive_is_tried(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    body = archive()
    site.put("/ml-100k.zip", body)
    site.put("/ml-100k.zip.md5", hashlib.md5(body).hexdigest().encode())
    assert fetch("ml-100k", tmp_path, silent, site.url).source == f"{site.url}/ml-100k.zip"
