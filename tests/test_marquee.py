"""How the command line ends when a command meets an error that it does not know."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import marquee
from features.console import KEPT_TRACEBACKS, fail

Ended = tuple[int, list[str]]


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Runs `marquee doctor` whose work raises the error: its exit status and what it wrote to stderr."""
    monkeypatch.setenv("MARQUEE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "argv", ["marquee", "doctor"])

    def run(error: Exception) -> Ended:
        def broken(_: object) -> None:
            raise error

        monkeypatch.setattr("serving.local.preflight.findings", broken)
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            marquee.main()
        return int(str(end.value.code)), capsys.readouterr().err.splitlines()

    return run


def kept(home: Path) -> list[Path]:
    return sorted((home / "logs").glob("*.log"))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=st.text(max_size=300), kind=st.sampled_from([ValueError, KeyError, RuntimeError, IndexError]))
def test_a_defect_is_one_line_with_the_way_to_its_traceback(
    ended, tmp_path: Path, message: str, kind: type[Exception]
) -> None:
    status, lines = ended(kind(message))
    assert status == 70
    [line] = lines
    assert line.startswith(f"error {kind.__name__}")
    assert "a defect of Marquee" in line
    newest = kept(tmp_path / "home")[-1]
    assert str(newest) in line
    assert newest.stat().st_mode & 0o077 == 0
    text = newest.read_text()
    assert "Traceback" in text
    assert "in broken" in text


def test_old_tracebacks_go(ended, tmp_path: Path) -> None:
    logs = tmp_path / "home" / "logs"
    logs.mkdir(parents=True)
    for number in range(2 * KEPT_TRACEBACKS):
        (logs / f"defect-2000{number:04}.log").touch()
    (logs / "else.log").touch()
    ended(ValueError("x"))
    assert len(kept(tmp_path / "home")) == KEPT_TRACEBACKS + 1
    assert (logs / "else.log").exists()


def test_a_home_that_cannot_be_written_costs_no_traceback(ended, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    status, [line] = ended(ValueError("x"))
    assert status == 70
    [file] = [Path(word) for word in line.split() if word.endswith(".log")]
    assert "Traceback" in file.read_text()
    file.unlink()


def test_what_the_machine_refuses_is_no_defect(ended, tmp_path: Path) -> None:
    status, [line] = ended(OSError(errno.ENOSPC, "No space left on device", "/data/x"))
    assert status == 1
    assert "No space left on device: '/data/x'" in line
    assert kept(tmp_path / "home") == []


def test_ctrl_c_while_a_command_is_imported_ends_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["marquee", "train"])
    monkeypatch.setattr("importlib.import_module", stopped)
    with pytest.raises(SystemExit) as end:
        marquee.main()
    assert end.value.code == 130


def test_debugging_shows_it(ended, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARQUEE_DEBUG", "1")
    with pytest.raises(ValueError, match="shown"):
        ended(ValueError("shown"))


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8", "utf-16", "shift_jis"])
@given(text=st.text(min_size=1, max_size=40) | st.binary(max_size=20).map(os.fsdecode))
def test_a_terminal_of_any_encoding_is_written_to(encoding: str, text: str) -> None:
    """Titles and paths may hold letters that the terminal's encoding has not, and paths need not be text."""
    written = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("stdout", "stderr"):
            patch.setattr(sys, name, io.TextIOWrapper(written, encoding=encoding))
        marquee.write_any_letter()
        print(text, flush=True)
        with pytest.raises(typer.Exit):
            fail(text)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            stream.detach()  # closes nothing
    assert written.getvalue()
