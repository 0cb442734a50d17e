"""Data sets at URLs: copied whole or not at all, and read like a folder of this machine."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.progress import silent
from training.data import remote
from training.data.manifest import DataError, Manifest
from training.data.prepare import Request, prepare
from training.data.tables import Tables

EVENTS = b"user_id,item_id\na,x\nb,y\n"


@pytest.fixture
def bucket() -> Iterator[str]:
    system = fsspec.filesystem("memory")
    system.pipe("/shop/tables/interactions.csv", EVENTS)
    system.pipe("/shop/tables/items.csv", b"item_id,title\nx,Tent\n")
    system.pipe("/shop/tables/notes.txt", b"not a table")
    yield "memory://shop/tables"
    system.rm("/shop", recursive=True)


def test_tables_at_a_url_are_read_once_until_they_change(bucket: str, tmp_path: Path) -> None:
    manifest, reused = prepare(Request(path=bucket), tmp_path)
    assert (manifest.about.source, manifest.about.name, reused) == (bucket, "tables", False)
    assert Tables.read(tmp_path / "data").items["title"].to_pylist() == ["Tent", None]
    assert prepare(Request(path=bucket), tmp_path) == (manifest, True)
    fsspec.filesystem("memory").pipe("/shop/tables/interactions.csv", EVENTS + b"c,x\n")
    changed, reused = prepare(Request(path=bucket), tmp_path)
    assert (changed.counts["interactions"], reused) == (3, False)
    assert len(list((tmp_path / "cache" / "remote").iterdir())) == 1
    assert not list(tmp_path.rglob("notes.txt"))


def test_a_folder_and_a_zip_by_file_url(tmp_path: Path) -> None:
    place = tmp_path / "shop"
    place.mkdir()
    (place / "interactions.csv").write_bytes(EVENTS)
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as out:
        out.write(place / "interactions.csv", "shop/interactions.csv")
    for home, path in (("a", place), ("b", tmp_path / "packed.zip")):
        manifest, _ = prepare(Request(path=f"file://{path}"), tmp_path / home)
        assert manifest.counts["interactions"] == 2


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://nothing/here", "does not exist, is empty or cannot be reached"),
        ("nosuch://place", "nosuch://place cannot be read"),
        ("ftp://me:s3cret@127.0.0.1:9/tables", "ftp://127.0.0.1:9/tables cannot be read"),
    ],
)
def test_what_cannot_be_read_is_one_line_without_secrets(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as refused:
        prepare(Request(path=url), tmp_path)
    assert "s3cret" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("limit", "value"), [("MAX_BYTES", 10), ("MAX_FILES", 1)])
def test_too_much_is_refused_before_it_is_copied(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(remote, limit, value)
    with pytest.raises(DataError, match="more than the"):
        prepare(Request(path=bucket), tmp_path)
    assert not (tmp_path / "cache").exists()


def test_a_copy_that_breaks_off_leaves_nothing_and_the_data_as_it_was(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = prepare(Request(path=bucket), tmp_path)
    fsspec.filesystem("memory").pipe("/shop/tables/interactions.csv", EVENTS + b"c,x\n")
    monkeypatch.setattr(remote, "DEADLINE_S", -1.0)
    with pytest.raises(DataError, match="copy the files by other means"):
        prepare(Request(path=bucket), tmp_path)
    assert Manifest.read(tmp_path / "data") == before
    assert not list((tmp_path / "cache" / "remote").glob(".*"))


def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    outside = remote.Remote("memory://shop", "/shop", (("../../../evil", 3, ""), ("a", 1, "")))
    with pytest.raises(DataError, match="outside of it"):
        remote.copied(outside, tmp_path / "cache", silent)
    assert not (tmp_path / "evil").exists()


@given(rest=st.text("[]@:/?#% aä\udcff\n", max_size=12), secret=st.sampled_from(["", "me:s3cret@"]))
def test_no_url_ends_in_a_traceback_or_tells_its_password(rest: str, secret: str) -> None:
    line = ""
    try:
        remote.look(f"memory://{secret}{rest}nowhere")
    except DataError as refused:
        line = str(refused)
    assert line
    assert "s3cret" not in line


def test_a_server_that_does_not_answer_is_not_called_empty_alone() -> None:
    with pytest.raises(DataError, match="cannot be reached"):
        remote.look("http://127.0.0.1:9/tables.zip")
