"""Ids, times and columns as strangers' programs write them: one meaning for every spelling, or a word."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.limits import MAX_ID_CHARS, MAX_VALUE
from features.schema import FeatureSchema
from serving.http.schemas import SessionEvent
from tests.training.data.strangers import folder, read
from training.data.file_order import SPAN_S, START
from training.data.manifest import DataError
from training.data.tables import Tables
from training.data.times import LATEST, SUSPICIOUS

tables_of_few = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

ID_SPELLINGS: dict[str, Callable[[int], str]] = {
    "digits": str,
    "point": lambda n: f"{n}.0",
    "points": lambda n: f"{n}.00",
    "spaces": lambda n: f" {n} ",
}


@tables_of_few
@given(
    ids=st.lists(st.integers(0, 10**15), min_size=1, max_size=8, unique=True),
    spelled=st.lists(st.sampled_from(sorted(ID_SPELLINGS)), min_size=3, max_size=3),
)
def test_numbers_are_the_same_ids_however_each_table_writes_them(
    tmp_path: Path, ids: list[int], spelled: list[str]
) -> None:
    events, items, users = (ID_SPELLINGS[name] for name in spelled)
    tables = read(
        folder(
            tmp_path,
            interactions="user_id,item_id\n" + "".join(f"{events(n)},{events(n)}\n" for n in ids),
            items="item_id,size\n" + "".join(f"{items(n)},1\n" for n in ids),
            users="user_id,age\n" + "".join(f"{users(n)},1\n" for n in ids),
        )
    )
    assert tables.items["item_id"].to_pylist() == tables.users["user_id"].to_pylist() == list(map(str, ids))
    assert [join.share for join in tables.facts.joins] == [1.0, 1.0]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([12, 13], pa.int64()),
        pa.array([12, 13], pa.uint8()),
        pa.array([12.0, 13.0], pa.float32()),
        pa.array([Decimal(12), Decimal(13)], pa.decimal128(38, 0)),
        pa.array([Decimal("12.00"), Decimal("13.00")], pa.decimal128(20, 2)),
        pa.array(["12", "13"], pa.large_string()),
        pa.array(["12", "13"]).dictionary_encode(),
        pa.array([b"12", b"13"], pa.binary()),
        pa.array(["12", "13"], pa.string_view()),
        pa.array([b"12", b"13"], pa.binary_view()),
        pa.array([b"12", b"13"], pa.large_binary()),
    ],
    ids=lambda column: str(column.type),
)
def test_parquet_ids_of_any_type_are_the_same_ids(tmp_path: Path, column: pa.Array) -> None:
    pq.write_table(pa.table({"user_id": ["a", "b"], "item_id": column}), tmp_path / "interactions.parquet")
    (tmp_path / "items.csv").write_text("item_id,title\n12,Lamp\n13,Desk\n")
    tables = read(tmp_path)
    assert tables.items["title"].to_pylist() == ["Lamp", "Desk"]
    assert tables.facts.joins[0].share == 1.0


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([True, False]), "bool"),
        (pa.array([[1], [2]]), "list"),
        (pa.array([b"\xff", b"\xfe"]), "bytes"),
        (pa.array([datetime(2024, 1, 1, tzinfo=UTC)] * 2), "timestamp"),
    ],
)
def test_ids_of_another_type_are_refused_with_file_column_and_value(
    tmp_path: Path, column: pa.Array, kind: str
) -> None:
    pq.write_table(pa.table({"user_id": ["a", "b"], "item_id": column}), tmp_path / "interactions.parquet")
    with pytest.raises(
        DataError, match=rf"interactions\.parquet: column item_id: ids of .*{kind}.*the first value is .+"
    ):
        read(tmp_path)


def test_a_point_among_names_stays(tmp_path: Path) -> None:
    tables = read(folder(tmp_path, interactions="user_id,item_id\n1.0,v1.0\nann,2.0\n"))
    assert tables.users["user_id"].to_pylist() == ["1.0", "ann"]
    assert tables.items["item_id"].to_pylist() == ["v1.0", "2.0"]


def test_one_number_written_twice_is_one_item_and_a_missing_number_is_no_id(tmp_path: Path) -> None:
    place = folder(
        tmp_path,
        interactions="user_id,item_id\na,12.0\nb,nan\nc,1e+05\n",
        items="item_id,title\n12.0,Lamp\n12,Lamp again\n",
    )
    tables = read(place, 1.0)
    assert tables.items.to_pylist() == [
        {"item_id": "12", "title": "Lamp"},
        {"item_id": "100000", "title": None},
    ]
    assert [[reject.why for reject in report.first] for report in tables.about.inputs] == [
        ["item_id 'nan' is not an id"],
        ["item_id '12' is there twice"],
    ]


@pytest.mark.parametrize(
    ("there", "here", "hint"),
    [
        ("p12", "12", "letters in front: 'p12' and '12'"),
        ("1", "0001", "zeros in front: '1' and '0001'"),
        ("P12", "p12", "capitals"),
        ("shop/12", "12", "letters"),
        ("12", "v-0012", "letters and zeros in front"),
    ],
)
def test_ids_of_which_none_join_are_refused_with_what_differs(
    tmp_path: Path, there: str, here: str, hint: str
) -> None:
    place = folder(tmp_path, interactions=f"user_id,item_id\na,{there}\n", items=f"item_id\n{here}\n")
    with pytest.raises(DataError, match=r"items\.csv: none of its 1 ids is in inter") as refused:
        read(place)
    assert hint in str(refused.value)
    assert f"{there!r} there and {here!r} here" in str(refused.value)


def test_fewer_than_half_that_join_are_said_with_a_hint(tmp_path: Path) -> None:
    place = folder(
        tmp_path,
        interactions="user_id,item_id\na,p1\na,p2\na,p3\na,4\n",
        items="item_id,title\n1,A\n2,B\n3,C\n4,D\n",
    )
    facts = read(place).facts
    assert (facts.joins[0].known, facts.joins[0].ids, facts.joins[0].rows) == (1, 4, 4)
    assert any("letters in front: 'p1' and '1'" in note for note in facts.notes)


MOMENT = datetime(2024, 1, 5, 9, 30, 15, tzinfo=UTC)
SECONDS = int(MOMENT.timestamp())
DAY = SECONDS - SECONDS % 86_400


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("2024", 1_704_067_200),
        ("202401", 1_704_067_200),
        ("20240105", DAY),
        ("202401050930", SECONDS - 15),
        ("20240105093015", SECONDS),
        (f"{SECONDS}", SECONDS),
        (f"{SECONDS}.75", SECONDS),
        (f"{SECONDS}000", SECONDS),
        (f"{SECONDS}000.0", SECONDS),
        (f"{SECONDS}000000", SECONDS),
        (f"{SECONDS}123456789", SECONDS),
        ("2024-01-05T09:30:15", SECONDS),
    ],
)
@pytest.mark.parametrize("others", [0, 5])
def test_the_unit_of_times_is_that_of_their_column(
    tmp_path: Path, written: str, seconds: int, others: int
) -> None:
    rows = [f"a,i{n},{written}" for n in range(1 + others)]
    tables = read(folder(tmp_path, interactions="user_id,item_id,timestamp\n" + "\n".join(rows) + "\n"))
    assert set(tables.interactions["timestamp"].to_pylist()) == {seconds}


UNITS: dict[str, Callable[[datetime], str]] = {
    "seconds": lambda t: str(int(t.timestamp())),
    "milliseconds": lambda t: str(int(t.timestamp()) * 1_000),
    "microseconds": lambda t: str(int(t.timestamp()) * 1_000_000),
    "nanoseconds": lambda t: str(int(t.timestamp()) * 10**9),
    "compact": lambda t: t.strftime("%Y%m%d%H%M%S"),
    "iso": lambda t: t.isoformat(),
}


@tables_of_few
@given(
    moments=st.lists(
        st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
        min_size=1,
        max_size=9,
    ),
    unit=st.sampled_from(sorted(UNITS)),
    odd=st.sampled_from([None, *sorted(UNITS)]),
    block=st.sampled_from([64, 1 << 20]),
)
def test_a_time_is_read_right_or_its_row_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moments: list[datetime],
    unit: str,
    odd: str | None,
    block: int,
) -> None:
    """Never a moment of 1970: a cell in another unit than most is malformed, unless it says its own."""
    monkeypatch.setattr("training.data.ingest.BLOCK_BYTES", block)
    moments = [moment.replace(microsecond=0) for moment in moments for _ in range(3)]
    cells = [UNITS[unit](moment) for moment in moments]
    if odd is not None:
        cells[0] = UNITS[odd](moments[0])
    rows = [f"a,i{n},{cell}" for n, cell in enumerate(cells)]
    tables = read(folder(tmp_path, interactions="user_id,item_id,timestamp\n" + "\n".join(rows) + "\n"), 1.0)
    expected = [int(moment.timestamp()) for moment in moments]
    found = tables.interactions["timestamp"].to_pylist()
    assert found in (expected, expected[1:])
    assert len(found) + tables.about.inputs[0].rejected == len(expected)


@pytest.mark.parametrize(
    ("rule", "odd"),
    [("1704447015", "20240105"), ("1704447015000000", "20240105093015"), ("1704447015", "2024")],
)
def test_a_date_among_numbers_is_malformed_and_no_moment_of_1970(tmp_path: Path, rule: str, odd: str) -> None:
    rows = [f"a,i{n},{rule}" for n in range(3)] + [f"a,z,{odd}", "a,y,9223372036854775807"]
    tables = read(folder(tmp_path, interactions="user_id,item_id,timestamp\n" + "\n".join(rows) + "\n"), 1.0)
    assert set(tables.interactions["timestamp"].to_pylist()) == {1_704_447_015}
    assert [reject.line for reject in tables.about.inputs[0].first] == [5, 6]


@tables_of_few
@given(
    past=st.lists(st.integers(SUSPICIOUS, int(time.time())), min_size=1, max_size=9),
    stray=st.lists(st.integers(0, SUSPICIOUS - 1), max_size=4),
    ahead=st.lists(st.integers(int(time.time()) + 30 * 86_400, LATEST - 1), max_size=4),
    written=st.sampled_from(["seconds", "milliseconds", "iso"]),
)
def test_times_that_no_event_can_have_are_said(
    tmp_path: Path, past: list[int], stray: list[int], ahead: list[int], written: str
) -> None:
    """A time to come, or the 0 of a missing one among times of this century: read, counted and named."""
    past *= len(stray) + len(ahead) + 1
    if written != "iso":
        stray = [0] * len(stray)  # other small numbers may be dates, and are malformed here
    moments = [datetime.fromtimestamp(second, UTC) for second in (*past, *stray, *ahead)]
    rows = [f"a,i{n},{UNITS[written](moment)}" for n, moment in enumerate(moments)]
    tables = read(folder(tmp_path, interactions="user_id,item_id,timestamp\n" + "\n".join(rows) + "\n"), 1.0)
    found, said = tables.interactions["timestamp"].to_pylist(), " ".join(tables.facts.notes)
    later, early = (sum(second >= min(ahead, default=LATEST) for second in found), found.count(0))
    assert later == len(ahead)
    assert (f"{later} of {len(found)} times lie in the future" in said) == bool(ahead)
    if written == "iso":
        early = len(stray)
    assert (f"{early} of {len(found)} times lie before 1980" in said) == bool(early)


@pytest.mark.parametrize("zone", [" UTC", "UTC", " GMT", "Z", "+00:00", " utc"])
@pytest.mark.parametrize("fraction", ["", ".5", ".123456"])
def test_a_zone_that_is_spelled_out_is_read(tmp_path: Path, zone: str, fraction: str) -> None:
    """As BigQuery and Postgres export times."""
    rows = f"user_id,item_id,timestamp\na,b,2024-01-05 09:30:15{fraction}{zone}\n"
    assert read(folder(tmp_path, interactions=rows)).interactions["timestamp"].to_pylist() == [SECONDS]


def test_without_times_the_order_of_rows_is_the_time(tmp_path: Path) -> None:
    log = read(folder(tmp_path, interactions="user_id,item_id\n3,1\n4,1\n3,2\n4,3\n3,3\n"))
    times = log.interactions["timestamp"].to_pylist()
    assert not log.facts.timed
    assert times == sorted(set(times))
    assert times[0] == START
    assert any("order of its rows is taken for the time" in note for note in log.facts.notes)


@tables_of_few
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_users_whose_rows_stand_together_all_span_the_window(tmp_path: Path, sizes: list[int]) -> None:
    rows = [f"u{user},i{n}" for user, size in enumerate(sizes) for n in range(size)]
    tables = read(folder(tmp_path, interactions="user_id,item_id\n" + "\n".join(rows) + "\n"))
    events = tables.interactions.to_pylist()
    for user, size in enumerate(sizes):
        times = [event["timestamp"] for event in events if event["user_id"] == f"u{user}"]
        assert len(set(times)) == size
        assert times == sorted(times)
        assert START <= min(times) <= max(times) < START + SPAN_S


def test_columns_of_interactions_that_are_not_used_are_named(tmp_path: Path) -> None:
    tables = read(
        folder(tmp_path, interactions="user_id,item_id,timestamp,event_type\na,x,1,view\nb,y,2,buy\n")
    )
    assert any("not used: event_type" in note for note in tables.facts.notes)


def test_a_list_and_a_plain_column_of_one_name_are_refused(tmp_path: Path) -> None:
    place = folder(tmp_path, interactions="user_id,item_id\na,x\n", items="item_id,tags,tags[]\nx,u,a|b\n")
    with pytest.raises(
        DataError, match=r"items\.csv: the columns 'tags' and 'tags\[\]' would both be 'tags'"
    ):
        read(place)


@tables_of_few
@given(
    items=st.lists(st.sampled_from(["country", "hour_sin", "user_id", "now", "title", "x"]), unique=True),
    users=st.lists(
        st.sampled_from(["country", "item_events", "item_id", "packed", "title", "x"]), unique=True
    ),
)
def test_a_name_in_both_tables_or_of_a_feature_just_works(
    tmp_path: Path, items: list[str], users: list[str]
) -> None:
    tables = read(
        folder(
            tmp_path,
            interactions="user_id,item_id\na,x\nb,y\n",
            items=",".join(["item_id", *items])
            + "\nx"
            + ",NO" * len(items)
            + "\ny"
            + ",SE" * len(items)
            + "\n",
            users=",".join(["user_id", *users])
            + "\na"
            + ",NO" * len(users)
            + "\nb"
            + ",SE" * len(users)
            + "\n",
        )
    )
    schema = FeatureSchema.infer(tables.interactions, tables.items, tables.users)
    names = [feature.name for feature in (*schema.user, *schema.item, *schema.context)]
    assert len(names) == len(set(names))
    for name in set(items) & set(users):
        assert f"user_{name}" in names
        assert name in names


def test_a_name_that_cannot_be_told_apart_is_refused(tmp_path: Path) -> None:
    place = folder(
        tmp_path,
        interactions="user_id,item_id\na,x\n",
        items="item_id,country\nx,NO\n",
        users="user_id,country,user_country\na,NO,SE\n",
    )
    with pytest.raises(
        DataError, match=r"users\.csv: column 'country': the name is taken, and 'user_country'"
    ):
        read(place)


@tables_of_few
@given(
    cells=st.lists(st.sampled_from(["1.5", "-2", "", "NA", "N/A", "null", "NaN", "-", "None"]), max_size=8)
)
def test_cells_that_say_missing_leave_a_column_of_numbers(tmp_path: Path, cells: list[str]) -> None:
    cells = ["4.5", *cells]
    place = folder(
        tmp_path,
        interactions="user_id,item_id\na,0\n",
        items="item_id,price\n" + "".join(f"{n},{cell}\n" for n, cell in enumerate(cells)),
    )
    price = read(place).items["price"]
    assert price.type == pa.float64()
    assert price.to_pylist() == [float(c) if c in ("4.5", "1.5", "-2") else None for c in cells]


def test_among_words_na_is_a_word(tmp_path: Path) -> None:
    place = folder(tmp_path, interactions="user_id,item_id\na,x\n", items="item_id,country\nx,NA\ny,NO\n")
    assert read(place).items["country"].to_pylist() == ["NA", "NO"]


@tables_of_few
@given(length=st.integers(MAX_ID_CHARS - 3, MAX_ID_CHARS + 3), letter=st.sampled_from(["a", "ø", "🎬"]))
def test_ids_are_as_long_as_the_api_takes_them(tmp_path: Path, length: int, letter: str) -> None:
    place = folder(tmp_path, interactions=f"user_id,item_id\na,x\n{letter * length},y\n")
    tables = read(place)
    report = tables.about.inputs[0]
    assert tables.users.num_rows == (2 if length <= MAX_ID_CHARS else 1)
    assert report.too_long == report.rejected == (0 if length <= MAX_ID_CHARS else 1)
    assert [f"{length} characters, more than the 256" in reject.why for reject in report.first] == [True] * (
        length > MAX_ID_CHARS
    )


@tables_of_few
@given(number=st.floats(width=64), kind=st.sampled_from(["csv", "parquet"]))
def test_a_value_is_one_the_api_takes_and_a_model_survives(tmp_path: Path, number: float, kind: str) -> None:
    """One limit from a table to a request: a strength beyond it makes features infinite."""
    place = folder(tmp_path / kind)
    rows = {"user_id": ["a", "b"], "item_id": ["x", "y"], "value": [1.0, number], "timestamp": [10**9, 10**9]}
    if kind == "csv":
        lines = [f"{a},{b},{c!r},{d}" for a, b, c, d in zip(*rows.values(), strict=True)]
        folder(place, interactions="\n".join([",".join(rows), *lines]))
    else:
        pq.write_table(pa.table(rows), place / "interactions.parquet")
    tables = read(place, 1.0)
    allowed = abs(number) <= MAX_VALUE
    assert tables.interactions.num_rows == 1 + allowed
    if allowed:
        assert SessionEvent(item_id="x", value=tables.interactions["value"][1].as_py())
    else:
        assert "value" in tables.about.inputs[0].first[0].why


def test_a_zip_of_ones_own_tables_is_read_like_a_folder(tmp_path: Path) -> None:
    import zipfile

    from features.progress import silent
    from training.data.movielens import load

    place = folder(tmp_path / "shop", interactions="user_id,item_id\na,x\n")
    pq.write_table(pa.table({"item_id": ["x"], "size": [3]}), place / "items.parquet")
    with zipfile.ZipFile(tmp_path / "shop.zip", "w") as out:
        for path in place.iterdir():
            out.write(path, f"shop/{path.name}")
    packed: Tables = load("-", tmp_path / "shop.zip", tmp_path, silent)
    assert packed.items.to_pylist() == read(place).items.to_pylist() == [{"item_id": "x", "size": 3}]
