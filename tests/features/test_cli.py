"""`marquee features` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from features.cli import features
from tests.features.test_prepare import write
from tests.features.worlds import films

app = typer.Typer()
app.command()(features)


def test_it_says_what_it_did_and_then_that_nothing_is_to_do(tmp_path: Path, redis_url: str) -> None:
    home = write(tmp_path / "home", films())
    arguments = ["--home", str(home), "--redis-url", redis_url]
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    assert "13 users and 10 items written to" in first.output.replace("\n", "")
    assert redis_url.split(":")[2].split("@")[0] not in first.output
    second = CliRunner().invoke(app, arguments)
    assert second.exit_code == 0
    assert "up to date" in second.output


def test_settings_come_from_the_environment(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARQUEE_HOME", str(write(tmp_path / "home", films())))
    monkeypatch.setenv("REDIS_URL", redis_url)
    assert CliRunner().invoke(app, []).exit_code == 0
    assert not (tmp_path / "home" / "redis").exists()


ODD = "redis://:s3cr{}et@127.0.0.1:1/0"


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "redis://127.0.0.1:1/0",
        "redis://h:port/0",
        "rediss://h/0?ssl_ca_certs=/nowhere.pem",
        "redis://[::1]:1/0",
        *(ODD.format(mark) for mark in ("/", "#", "?", "@", ":", "%", " ", "[bold]", "\n")),
    ],
)
def test_a_bad_redis_is_one_line_and_exit_code_1(tmp_path: Path, url: str) -> None:
    home = write(tmp_path / "home", films())
    result = CliRunner().invoke(app, ["--home", str(home), "--redis-url", url])
    assert result.exit_code == 1
    assert result.exception is None or isinstance(result.exception, SystemExit)
    steps, lines = split(result.output)
    assert lines[0].startswith("error ")
    assert (len(lines), steps) == (1, [])  # Redis is asked before anything is built
    assert "s3c" not in result.output


def test_more_items_than_training_takes_are_refused_before_anything_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.limits.MAX_ITEMS", 9)
    home = write(tmp_path / "home", films())
    result = CliRunner().invoke(app, ["--home", str(home)])
    steps, lines = split(result.output)
    assert result.exit_code == 1
    assert steps == ["[0:00] read the tables"]
    assert "10 items are more than the 9 that training takes" in lines[0]


def split(output: str) -> tuple[list[str], list[str]]:
    """The lines that say what is being done, and the others."""
    lines = output.strip().splitlines()
    steps = [line for line in lines if line.startswith("[")]
    return steps, [line for line in lines if line not in steps]


def test_no_data_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--home", str(tmp_path)])
    assert result.exit_code == 1
    assert "run `marquee data`" in result.output
    assert len(result.output.strip().splitlines()) == 1
