from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.data.ingest import Ingest
from training.data.manifest import KEPT_REJECTS, DataError
from training.data.own import read_own
from training.data.tables import Tables


def read(folder: Path, share: float = 1.0) -> Tables:
    return read_own(folder, Ingest(share))


def events(folder: Path, *rows: str, header: str = "user_id,item_id,value,timestamp") -> Path:
    (folder / "interactions.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def test_csv_and_parquet_give_equal_tables(tmp_path: Path) -> None:
    interactions = pa.table(
        {
            "user_id": pa.array([10, 11, 10], pa.int64()),
            "item_id": ["a", "b", "zzz"],
            "value": [1.5, 2.0, 3.0],
            "timestamp": pa.array([5, 6, 7], pa.timestamp("s")),
        }
    )
    items = pa.table(
        {"title": ["A", "B, the \n second"], "item_id": ["a", "b"], "price": [1.5, None], "stock": [3, 4]}
    )
    users = pa.table({"user_id": [10, 11], "member": [True, False], "zip": ["01234", "99999"]})
    lists = pa.array([["x", "y"], []], pa.list_(pa.string()))
    as_csv, as_parquet = tmp_path / "csv", tmp_path / "parquet"
    for folder in (as_csv, as_parquet):
        folder.mkdir()
    pa_csv.write_csv(interactions, as_csv / "interactions.csv")
    pa_csv.write_csv(items.append_column("genres[]", pa.array(["x|y", ""])), as_csv / "items.csv")
    pa_csv.write_csv(users, as_csv / "users.csv")
    pq.write_table(interactions, as_parquet / "interactions.parquet")
    pq.write_table(items.append_column("genres", lists), as_parquet / "items.parquet")
    pq.write_table(users, as_parquet / "users.parquet")

    text, typed = read(as_csv, 0.0), read(as_parquet, 0.0)
    for name in ("interactions", "items", "users"):
        assert getattr(text, name).equals(getattr(typed, name)), name
    assert text.interactions["user_id"].to_pylist() == ["10", "11", "10"]
    assert text.items.to_pylist()[2] == {
        "item_id": "zzz", "title": None, "price": None, "stock": None, "genres": None
    }  # fmt: skip


def test_values_are_one_where_there_is_no_column(tmp_path: Path) -> None:
    events(tmp_path, "u,a,5", "u,b,6", header="user_id,item_id,timestamp")
    assert read(tmp_path).interactions["value"].to_pylist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("881250949", 881250949),
        ("881250949.9", 881250949),
        ("-86400", -86400),
        ("1997-12-04T15:55:49Z", 881250949),
        ("1997-12-04 15:55:49", 881250949),
        ("1997-12-04T17:55:49.5+02:00", 881250949),
        ("1997-12-04", 881193600),
    ],
)
def test_times(tmp_path: Path, written: str, seconds: int) -> None:
    assert read(events(tmp_path, f"u,a,1,{written}")).interactions["timestamp"].to_pylist() == [seconds]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Asia/Tokyo"])
def test_parquet_times_of_any_unit_and_zone(tmp_path: Path, unit: str, zone: str | None) -> None:
    moment = datetime(1997, 12, 4, 15, 55, 49, tzinfo=UTC if zone else None)
    column = pa.array([moment], pa.timestamp(unit, zone))
    pq.write_table(
        pa.table({"user_id": ["u"], "item_id": ["a"], "timestamp": column}), tmp_path / "interactions.parquet"
    )
    assert read(tmp_path).interactions["timestamp"].to_pylist() == [881250949]


def test_malformed_rows_are_counted_and_named(tmp_path: Path) -> None:
    events(
        tmp_path,
        "u,a,1,5",  # line 2
        "",
        "u,a,1",
        "u,a,nan,5",
        ",a,1,5",
        "u,  ,1,5",
        "u,a,1e999,5",
        "u,a,x,5",
        "u,a,1,1600000000000",
        "u,a,1,2020-13-01",
        "u,a,1,",
        "u,a,1,5,6",
        "u,b,2,6",
    )
    tables = read(tmp_path)
    report = tables.about.inputs[0]
    assert tables.interactions["item_id"].to_pylist() == ["a", "b"]
    assert (report.rows, report.rejected) == (12, 10)
    assert {reject.line: reject.why.split(" is ")[0] for reject in report.first} == {
        4: "3 columns where 4 are expected",
        5: "value 'nan'",
        6: "user_id",
        7: "item_id",
        8: "value '1e999'",
        9: "value 'x'",
        10: "timestamp '1600000000000'",
        11: "timestamp '2020-13-01'",
        12: "timestamp",
        13: "5 columns where 4 are expected",
    }


def test_lines_are_those_of_the_file_when_cells_hold_line_breaks(tmp_path: Path) -> None:
    events(tmp_path, "u,a,1,5")
    (tmp_path / "items.csv").write_text('item_id,title\na,"one\ntwo\n"\n\n"b","say ""hi"""\na,again\n,none\n')
    report = read(tmp_path).about.inputs[1]
    assert [(reject.line, reject.why) for reject in report.first] == [
        (7, "item_id 'a' is there twice"),
        (8, "item_id is missing"),
    ]


def test_parquet_rows_are_named_by_number(tmp_path: Path) -> None:
    table = pa.table(
        {
            "user_id": pa.array([1.0, None, 2.5], pa.float64()),
            "item_id": ["a", "b", "c"],
            "value": [1.0, 1.0, math.inf],
            "timestamp": [1, 2, 3],
        }
    )
    pq.write_table(table, tmp_path / "interactions.parquet")
    tables = read(tmp_path)
    assert tables.interactions["user_id"].to_pylist() == ["1"]
    assert [(reject.line, reject.why) for reject in tables.about.inputs[0].first] == [
        (2, "user_id is missing"),
        (3, "user_id '2.5' is not an id"),
    ]


def test_the_share_decides_and_the_boundary_is_allowed(tmp_path: Path) -> None:
    events(tmp_path, *(f"u,a,1,{n}" for n in range(99)), "u,a,?,5")
    assert read(tmp_path, 0.01).interactions.num_rows == 99
    with pytest.raises(
        DataError, match=r"1 of 100 rows \(1\.0%\).*0\.5% allowed.*line 101.*--max-rejected-share"
    ):
        read(tmp_path, 0.005)


def test_only_the_first_rejects_are_kept_across_kinds_and_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.data.ingest.BLOCK_BYTES", 256)
    bad = {row for row in range(400) if row % 3 == 1}
    events(
        tmp_path,
        *("u,a" if row in bad and row % 2 else "u,a,x,1" if row in bad else "u,a,1,1" for row in range(400)),
    )
    report = read(tmp_path).about.inputs[0]
    assert report.rejected == len(bad)
    assert [reject.line for reject in report.first] == [row + 2 for row in sorted(bad)[:KEPT_REJECTS]]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.sampled_from(
            ["u,a,1,7", "u,a,1", ",a,1,7", "u,a,inf,7", "u,a,1,never", "", "u,a,1,7,8", '"u",b,2,2020-01-01']
        ),
        min_size=1,
        max_size=60,
    ),
    block=st.sampled_from([64, 128, 1 << 20]),
)
def test_every_row_is_taken_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[str], block: int
) -> None:
    """Whatever is mixed, and wherever blocks end: the good rows are taken and the bad ones named."""
    monkeypatch.setattr("training.data.ingest.BLOCK_BYTES", block)
    good = {"u,a,1,7", '"u",b,2,2020-01-01'}
    events(tmp_path, "first,a,1,1", *rows)
    tables = read(tmp_path)
    report = tables.about.inputs[0]
    bad = [line for line, row in enumerate(rows, start=3) if row and row not in good]
    taken = tables.interactions.num_rows + tables.facts.duplicates
    assert taken == 1 + sum(row in good for row in rows)
    assert report.rejected == len(bad)
    assert report.rows == 1 + sum(bool(row) for row in rows)
    assert [reject.line for reject in report.first] == bad[:KEPT_REJECTS]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("interactions.csv", b"user,item\n1,2\n", r"no column user_id, item_id; found user, item"),
        ("interactions.csv", b"", r"interactions\.csv"),
        ("interactions.csv", b"user_id,item_id,timestamp\n", "no interaction"),
        ("interactions.csv", b"user_id,item_id,timestamp\n\xff\xfe,a,1\n", "line 2 is not UTF-8"),
        ("interactions.csv", b"user_id,user_id,timestamp\nu,a,1\n", "same name"),
        ("interactions.parquet", b"PAR1 but not really", "not a readable Parquet file"),
    ],
)
def test_unreadable_files_are_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as refused:
        read(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_table_given_twice_is_refused(tmp_path: Path) -> None:
    events(tmp_path, "u,a,1,1")
    (tmp_path / "interactions.parquet").touch()
    with pytest.raises(DataError, match="twice, as Parquet and as CSV"):
        read(tmp_path)


@pytest.mark.parametrize("swallowed", [1, 50])
@pytest.mark.parametrize("table", ["interactions", "items"])
def test_a_quote_that_is_never_closed_loses_no_rows_unseen(
    tmp_path: Path, table: str, swallowed: int
) -> None:
    """The rows after it are one cell to a parser: one rejected or accepted row that hides them all."""
    events(tmp_path, *["u,a,1,5"] * 200)
    head, good, bad = {
        "interactions": ("user_id,item_id,value,timestamp", "u,a,1,5", '"u,a,1,5'),
        "items": ("item_id,title", "x{},plain", 'last,"open'),
    }[table]
    rows = [good.format(row) for row in range(200)]
    tail = [good.format(row) for row in range(200, 200 + swallowed)]
    (tmp_path / f"{table}.csv").write_text("\n".join([head, *rows, bad, *tail]) + "\n")
    with pytest.raises(DataError, match=rf"{table}\.csv: the quote opened on line 202 is never closed"):
        read(tmp_path, 0.01)


def test_a_stray_quote_inside_a_cell_is_text(tmp_path: Path) -> None:
    """`5" pipe` is no valid CSV, yet nothing is lost by it."""
    events(tmp_path, "u,a,1,5")
    (tmp_path / "items.csv").write_text('item_id,title\na,5" pipe\nb,"two\nlines"\n')
    assert read(tmp_path, 0.0).items["title"].to_pylist() == ['5" pipe', "two\nlines"]


def test_a_quote_that_hides_more_than_a_block_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.data.ingest.BLOCK_BYTES", 256)
    events(tmp_path, "u,a,1,5", '"u,a,1,5', *["u,a,1,5"] * 500)
    with pytest.raises(DataError, match=r"a row of more than 256 bytes: a quote may never be closed"):
        read(tmp_path, 0.5)


def test_rows_between_two_stray_quotes_are_counted_one_by_one(tmp_path: Path) -> None:
    """They reach us as one broken record; counted as one they would slip under any share."""
    events(tmp_path, *["u,a,1,5"] * 100, '"u,a,1,5', *["u,a,1,5"] * 48, 'u",a,1', *["u,a,1,5"] * 50)
    report = read(tmp_path).about.inputs[0]
    assert (report.rows, report.rejected) == (200, 50)
    assert report.first[0].line == 102
    assert report.first[0].why.endswith("over 50 lines")
