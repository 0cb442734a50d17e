"""A published bundle is whole or not there; publishing twice changes nothing."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from training.manifest import FILE_NAME
from training.publish import PublishError, publish

FILES = {"weights.safetensors": b"\0\1", "items.parquet": b"PAR1", FILE_NAME: b"{}"}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "made" / "0a1b2c"
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def test_a_folder_gets_all_files(bundle: Path, tmp_path: Path) -> None:
    url = publish(bundle, f"{tmp_path}/store/")
    assert url == f"{tmp_path}/store/0a1b2c"
    assert {path.name: path.read_bytes() for path in Path(url).iterdir()} == FILES


def test_a_url_gets_all_files(bundle: Path) -> None:
    url = publish(bundle, "memory://published")
    files, path = fsspec.core.url_to_fs(url)
    assert {name.rpartition("/")[2]: files.cat(name) for name in files.ls(path, detail=False)} == FILES


def test_what_is_there_is_left_alone(bundle: Path, tmp_path: Path) -> None:
    copy = Path(publish(bundle, str(tmp_path / "store")))
    (copy / "items.parquet").write_bytes(b"as it is")
    assert publish(bundle, str(tmp_path / "store")) == str(copy)
    assert (copy / "items.parquet").read_bytes() == b"as it is"


def test_a_copy_cut_short_is_no_bundle_and_done_again(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = LocalFileSystem.put_file

    def cut(self: LocalFileSystem, source: str, target: str, **given: object) -> None:
        if target.endswith("weights.safetensors"):
            raise OSError("no space left on device")
        whole(self, source, target, **given)

    with monkeypatch.context() as patch:
        patch.setattr(LocalFileSystem, "put_file", cut)
        with pytest.raises(PublishError, match=r"0a1b2c cannot be copied to .*: no space left"):
            publish(bundle, str(tmp_path / "store"))
    assert not (tmp_path / "store" / "0a1b2c" / FILE_NAME).exists()
    copy = Path(publish(bundle, str(tmp_path / "store")))
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == FILES


def test_an_unknown_scheme_is_one_line(bundle: Path) -> None:
    with pytest.raises(PublishError, match=r"^bundle 0a1b2c cannot be copied to nowhere://x: [^\n]+$"):
        publish(bundle, "nowhere://x")
