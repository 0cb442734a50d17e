from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from training.data.cli import data
from training.data.manifest import DataError, Manifest
from training.data.prepare import Request, prepare
from training.data.tables import Tables

app = typer.Typer()
app.command()(data)


def run(*arguments: object, **environment: str) -> Result:
    clean = {"DATASET": None, "DATASET_PATH": None, "MARQUEE_HOME": None, "COLUMNS": "200", "NO_COLOR": "1"}
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={**clean, **environment})


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "interactions.csv").write_text("user_id,item_id,timestamp\nu,a,0\nu,b,86400\n")
    return folder


def test_data_is_put_in_place_once(own: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = run("--dataset-path", own, "--home", home)
    assert first.exit_code == 0, first.output
    for shown in ("shop", "1970-01-01 to 1970-01-02", "rejected rows", "your own data"):
        assert shown in first.stdout
    assert "already there" not in first.stdout
    stamp = (home / "data" / "dataset.json").stat().st_mtime_ns
    second = run("--dataset-path", own, "--home", home)
    assert second.exit_code == 0
    assert "already there" in second.stdout
    assert (home / "data" / "dataset.json").stat().st_mtime_ns == stamp
    assert run("--dataset-path", own, "--home", home, "--force").exit_code == 0
    assert (home / "data" / "dataset.json").stat().st_mtime_ns > stamp


def test_changed_input_is_read_anew(own: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    run(DATASET_PATH=str(own), MARQUEE_HOME=str(home))
    with (own / "interactions.csv").open("a") as out:
        out.write("v,a,5\n")
    assert "already there" not in run(DATASET_PATH=str(own), MARQUEE_HOME=str(home)).stdout
    assert Tables.read(home / "data").interactions.num_rows == 3
    (own / "users.csv").write_text("user_id,age\nu,3\n")
    run("--dataset-path", own, "--home", home)
    assert Tables.read(home / "data").users.to_pylist() == [
        {"user_id": "u", "age": 3},
        {"user_id": "v", "age": None},
    ]


def test_half_a_data_set_is_built_anew(own: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    run("--dataset-path", own, "--home", home)
    (home / "data" / "items.parquet").write_bytes(b"PAR1")
    assert run("--dataset-path", own, "--home", home).exit_code == 0
    assert Tables.read(home / "data").items.num_rows == 2


def test_refused_data_is_one_line_and_keeps_what_was_there(own: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    run("--dataset-path", own, "--home", home)
    before = Manifest.read(home / "data")
    (own / "interactions.csv").write_text("user_id,item_id,timestamp\nu,a,0\nu,b,soon\n")
    refused = run("--dataset-path", own, "--home", home)
    assert refused.exit_code == 1
    assert refused.stdout == ""
    lines = [line for line in refused.stderr.splitlines() if not line.startswith("[")]
    assert len(lines) == 1
    assert "line 3: timestamp 'soon'" in lines[0]
    assert Manifest.read(home / "data") == before
    allowed = run("--dataset-path", own, "--home", home, "--max-rejected-share", 0.5)
    assert allowed.exit_code == 0
    assert "interactions.csv: 1 of 2" in allowed.stdout
    assert run("--dataset-path", own, "--home", home).exit_code == 1  # what is there is not good enough now


def test_a_catalogue_that_training_would_refuse_is_written_with_a_warning(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.limits.MAX_ITEMS", 1)
    done = run("--dataset-path", own, "--home", tmp_path / "home")
    assert done.exit_code == 0
    assert "warning 2 items are more than the 1 that training takes" in done.stderr
    assert Tables.read(tmp_path / "home" / "data").items.num_rows == 2


def test_a_synthetic_world_to_order(tmp_path: Path) -> None:
    sizes = ("--users", 50, "--items", 40, "--interactions", 300, "--home", tmp_path)
    made = run("--dataset", "synthetic", *sizes, "--seed", 1)
    assert made.exit_code == 0, made.output
    assert Manifest.read(tmp_path / "data").counts == {"interactions": 300, "items": 40, "users": 50}
    assert "already there" in run("--dataset", "synthetic", *sizes, "--seed", 1).stdout
    assert "already there" not in run("--dataset", "synthetic", *sizes, "--seed", 2).stdout


def test_a_size_without_a_synthetic_world_is_refused(own: Path, tmp_path: Path) -> None:
    refused = run("--dataset-path", own, "--home", tmp_path, "--users", 5)
    assert refused.exit_code == 1
    assert "--users belongs to --dataset synthetic" in refused.stderr


def test_a_home_that_cannot_be_written_is_one_line(own: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = run("--dataset-path", own, "--home", tmp_path / "file")
    assert refused.exit_code == 1
    assert "choose another --home" in refused.stderr


def test_finding_the_data_there_imports_nothing_heavy(own: Path, tmp_path: Path) -> None:
    run("--dataset-path", own, "--home", tmp_path)
    script = (
        "import json, sys; from pathlib import Path; from training.data.cli import data;"
        f"data(dataset_path={str(own)!r}, home=Path({str(tmp_path)!r}));"
        "heavy = ('torch', 'ray', 'pyarrow', 'pandas', 'numpy', 'httpx');"
        "print(json.dumps([m for m in heavy if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60, env=os.environ
    )
    assert "already there" in done.stdout
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_data_error_is_what_the_manifest_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run `marquee data`"):
        Manifest.read(tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    interactions=st.one_of(st.binary(max_size=80), st.just(b"user_id,item_id\nu,a\nv,a\n")),
    items=st.one_of(st.none(), st.binary(max_size=80), st.just(b"item_id,note\na,[bold]x[/]\n")),
    suffix=st.sampled_from([".csv", ".parquet"]),
)
def test_no_input_ends_in_a_traceback(
    tmp_path: Path, interactions: bytes, items: bytes | None, suffix: str
) -> None:
    folder = tmp_path / "noise"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / f"interactions{suffix}").write_bytes(interactions)
    if items is not None:
        (folder / "items.csv").write_bytes(items)
    done = run("--dataset-path", folder, "--home", tmp_path / "home")
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert done.exit_code in (0, 1)
    if done.exit_code:
        assert sum(line.startswith("error ") for line in done.stderr.splitlines()) == 1


def test_what_was_decided_is_said(own: Path, tmp_path: Path) -> None:
    (own / "interactions.csv").write_text("user_id,item_id,kind\n1.0,12.0,view\n2.0,13.0,buy\n2.0,14.0,buy\n")
    (own / "items.csv").write_text("item_id,title\n12,Lamp\n99,Desk\n")
    done = run("--dataset-path", own, "--home", tmp_path / "home")
    assert done.exit_code == 0, done.output
    assert "items.csv: 1 of 3 items of the interactions have a row (33.3%); 1 of its 2 rows are of none" in (
        " ".join(done.stdout.replace("│", " ").split())
    )
    assert "no times: the order of rows is taken for it" in done.stdout
    for warning in (
        "are the ids spelled alike?",
        "12.0 are read as 12",
        "not used: kind",
        "no column timestamp",
    ):
        assert any(line.startswith("warning ") and warning in line for line in done.stderr.splitlines()), (
            warning
        )


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=9)
    | st.binary(min_size=1, max_size=9).filter(lambda raw: not set(raw) & set(b"/\0")),
    layout=st.sampled_from(["own", "movielens"]),
)
def test_files_and_folders_of_any_name_are_read(
    own: Path, tmp_path: Path, name: str | bytes, layout: str
) -> None:
    """What Linux allows, names that are no text in its encoding among it; found again by the next call."""
    called = os.fsdecode(name if isinstance(name, bytes) else name.encode())
    assume(called not in (".", "..") and not called.startswith((".", "__MACOSX")))
    place = tmp_path / "in" / called
    shutil.rmtree(tmp_path / "in", ignore_errors=True)
    place.mkdir(parents=True)
    if layout == "own":
        shutil.copy(own / "interactions.csv", place)
    else:
        (place / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,2,3,4\n")
        (place / "movies.csv").write_text("movieId,title,genres\n2,A (1999),Drama\n")
    (place / f"{called}.txt").touch()
    world = tmp_path / "home"
    manifest, reused = prepare(Request(path=place), world, force=True)
    assert not reused
    assert prepare(Request(path=place), world) == (manifest, True)
    manifest.about.name.encode()
    manifest.about.source.encode()
