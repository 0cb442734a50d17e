from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.data.manifest import FILE_NAME, About, DataError, FileReport, Manifest, Reject
from training.data.tables import INTERACTIONS, Tables

ABOUT = About("tiny", "a test", "free", (FileReport("x.csv", 9, "ab", 4, 1, (Reject(2, "why"),)),))


def tiny(events: int = 3) -> Tables:
    interactions = pa.table(
        {
            "user_id": pa.array(["u", "v", "u"][:events], pa.string()).dictionary_encode(),
            "item_id": pa.array(["b", "a", "c"][:events], pa.string()).dictionary_encode(),
            "value": pa.array([1.0, 2.0, 3.0][:events], pa.float32()),
            "timestamp": pa.array([5, 3, 9][:events], pa.int64()),
        }
    )
    items = pa.table({"title": ["A", "D"], "item_id": ["a", "d"], "genres": [["x"], []]})
    return Tables.assemble(interactions, items, None, ABOUT)


def test_ids_without_a_row_get_one_after_the_others() -> None:
    tables = tiny()
    assert tables.items.column_names == ["item_id", "title", "genres"]
    assert tables.items["item_id"].to_pylist() == ["a", "d", "b", "c"]
    assert tables.items["genres"].to_pylist() == [["x"], [], None, None]
    assert tables.users.to_pylist() == [{"user_id": "u"}, {"user_id": "v"}]


def test_no_interaction_is_refused() -> None:
    with pytest.raises(DataError, match="no interaction"):
        tiny(events=0)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = tiny()
    manifest = written.write(tmp_path / "data", {"dataset": "tiny", "n": 1})
    read = Tables.read(tmp_path / "data")
    assert read.interactions.schema == INTERACTIONS
    for name in ("interactions", "items", "users"):
        assert getattr(read, name).equals(getattr(written, name))
    assert read.about == ABOUT
    assert Manifest.read(tmp_path / "data") == manifest
    assert (manifest.counts, manifest.window) == ({"interactions": 3, "items": 4, "users": 2}, (3, 9))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_many_row_groups_read_as_one_dictionary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.data.tables.ROW_GROUP_ROWS", 1)
    tiny().write(tmp_path / "data")
    users = Tables.read(tmp_path / "data").interactions["user_id"]
    assert users.to_pylist() == ["u", "v", "u"]
    assert all(chunk.dictionary.equals(users.chunk(0).dictionary) for chunk in users.chunks)


def test_a_write_that_fails_keeps_the_old_data_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "data"
    before = tiny(events=2).write(target)

    def full(table: pa.Table, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="no space"):
        tiny().write(target)
    assert Manifest.read(target) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_what_a_killed_write_left_is_put_right_by_the_next(tmp_path: Path) -> None:
    target = tmp_path / "data"
    tiny(events=2).write(target)
    target.rename(tmp_path / ".data.replaced")  # killed between its two renames
    (tmp_path / ".data.partial").mkdir()
    (tmp_path / ".data.partial" / "items.parquet").write_bytes(b"half")
    tiny().write(target)
    assert Tables.read(target).interactions.num_rows == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


@pytest.mark.parametrize("harm", ["absent", "no manifest", "no json", "short table", "no table", "format"])
def test_half_a_data_set_is_refused_with_what_to_do(tmp_path: Path, harm: str) -> None:
    target = tmp_path / "data"
    if harm != "absent":
        tiny().write(target)
    manifest = target / FILE_NAME
    if harm == "no manifest":
        manifest.unlink()
    elif harm == "no json":
        manifest.write_text("{")
    elif harm == "format":
        manifest.write_text(manifest.read_text().replace('"format": 2', '"format": 99'))
    elif harm == "short table":
        (target / "items.parquet").write_bytes(b"PAR1")
    elif harm == "no table":
        (target / "users.parquet").unlink()
    with pytest.raises(DataError, match="run `marquee data"):
        Tables.read(target)


INGEST = """
import resource, sys
from pathlib import Path
from training.data.movielens import load
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
tables = load("-", Path(sys.argv[1]), Path(sys.argv[2]), lambda *_: None)
tables.write(Path(sys.argv[2]) / "data")
print(tables.interactions.num_rows, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_ingest_stays_under_four_times_the_file(tmp_path: Path) -> None:
    """Two million ratings, 46 MB; larger files are further below, as the parser's blocks do not grow."""
    rows, block = 2_000_000, 10_000
    with (tmp_path / "ratings.csv").open("w") as out:
        out.write("userId,movieId,rating,timestamp\n")
        for user in range(rows // block):
            first = 1_000_000_000 + user * block
            out.writelines(f"{user},{row * 7919 % 60_000},3.5,{first + row}\n" for row in range(block))
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n0,Toy Story (1995),Comedy\n")
    done = subprocess.run(
        [sys.executable, "-c", INGEST, str(tmp_path), str(tmp_path / "home")],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    read, growth = map(int, done.stdout.split())
    assert read == rows
    assert growth < 4 * (tmp_path / "ratings.csv").stat().st_size
