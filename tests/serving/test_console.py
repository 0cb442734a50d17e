"""What replicas write reaches the console of who started them, or nobody waits for it."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.config import LogsConfig
from serving.console import LONGEST, ToConsole, shown
from serving.observe import logs


def handler(path: Path) -> ToConsole:
    made = ToConsole(path)
    made.setFormatter(logging.Formatter("%(message)s"))
    return made


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("serving", logging.ERROR, __file__, 1, "%s", (message,), None)


@given(st.lists(st.text(max_size=50), max_size=20))
def test_every_record_is_on_the_console_in_its_order(messages: list[str]) -> None:
    console = io.StringIO()
    with TemporaryDirectory() as folder, shown(Path(folder) / "s", console):
        sends = handler(Path(folder) / "s")
        for message in messages:
            sends.emit(record("line " + message))
        sends.close()
    lines = ["line " + m.encode("utf-8", "backslashreplace").decode() for m in messages]
    assert console.getvalue() == "".join(line + "\n" for line in lines)


def test_a_record_too_long_is_cut_and_nobody_listening_is_no_error(tmp_path: Path) -> None:
    console = io.StringIO()
    sends = handler(tmp_path / "s")
    sends.emit(record("before anybody listens"))
    with shown(tmp_path / "s", console):
        sends.emit(record("x" * 2 * LONGEST))
    sends.emit(record("after"))
    sends.close()
    assert console.getvalue() == "x" * (LONGEST - 4) + " ...\n"
    assert not (tmp_path / "s").exists()


def test_a_closed_console_keeps_nobody_waiting(tmp_path: Path) -> None:
    console = io.StringIO()
    console.close()
    with shown(tmp_path / "s", console):
        sends = handler(tmp_path / "s")
        sends.emit(record("lost"))
        sends.close()


@pytest.mark.parametrize(("access", "seen"), [(0.0, ["broken"]), (1.0, ["hello", "broken"])])
def test_a_console_is_told_of_trouble_and_of_requests_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, access: float, seen: list[str]
) -> None:
    console, package = io.StringIO(), logging.getLogger("tests.serving.of_its_own")
    monkeypatch.setattr(logs, "PACKAGES", (package.name,))
    with shown(tmp_path / "s", console):
        logs.configure(LogsConfig(access=access), None, tmp_path / "s")
        package.info("hello")
        try:
            raise LookupError("cause")
        except LookupError:
            package.exception("broken")
        package.handlers[-1].close()
        package.handlers.clear()
    said = console.getvalue()
    assert [word for word in ("hello", "broken") if word in said] == seen
    assert said.count("Traceback") == said.count("LookupError: cause") == 1
