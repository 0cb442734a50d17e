"""Encodings and line ends: read to the same tables, or refused in one line."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.training.data.strangers import ENCODINGS, ENDS, folder, read, refusal, texts, written
from training.data.manifest import DataError
from training.data.plain_text import PlainText, TextFormat

files = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

EVENTS = [["user_id", "item_id", "value", "timestamp"], ["ann", "x", "1", "5"], ["bø", "y", "2", "6"]]


@files
@given(
    title=texts,
    note=texts,
    encoding=st.sampled_from(ENCODINGS),
    end=st.sampled_from(ENDS),
    block=st.sampled_from([64, 100, 1 << 20]),
)
def test_every_encoding_and_line_end_gives_the_same_tables(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    title: str,
    note: str,
    encoding: str,
    end: str,
    block: int,
) -> None:
    rows = [["item_id", "title", "note ü"], ["x", title, "two\nlines" + note], ["y", "plain", note]]
    expected = read(folder(tmp_path / "plain", interactions=written(EVENTS), items=written(rows)))
    monkeypatch.setattr("training.data.ingest.BLOCK_BYTES", max(block, 8 * len(written(rows))))
    spelled = folder(
        tmp_path / "spelled",
        interactions=written(EVENTS, end, encoding),
        items=written(rows, end, encoding),
    )
    found = read(spelled)
    assert found.interactions.equals(expected.interactions)
    assert found.items.equals(expected.items)
    assert found.items["title"].to_pylist()[0] == (title.strip() or None)


SEEDS = (written(EVENTS), written(EVENTS, "\r"), written(EVENTS, encoding="utf-16"), b"user_id,item_id\n")


@settings(files, max_examples=400)
@given(data=st.data(), seed=st.sampled_from(SEEDS))
def test_any_bytes_end_as_tables_or_as_one_line(tmp_path: Path, data: st.DataObject, seed: bytes) -> None:
    """Damaged tables and noise: cut, spliced with quotes, marks, NUL bytes and half characters."""
    noise = st.one_of(
        st.binary(max_size=30),
        st.sampled_from([b'"', b"\r", b"\n", b"\0", b",,", b"\xff\xfe", b"\xe9"]),
    )
    content = seed
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(content)))
        content = content[:at] + data.draw(noise) + content[at + data.draw(st.integers(0, 3)) :]
    name = data.draw(st.sampled_from(["interactions", "items"]))
    tables = {"interactions": written(EVENTS), name: content}
    said = refusal(folder(tmp_path, **tables))
    assert said is None or ("\n" not in said and (f"{name}.csv" in said or "interactions.csv" in said))


def test_half_a_character_at_the_end_of_a_row_that_is_too_short_is_named(tmp_path: Path) -> None:
    """Arrow could not show the row, and said so past us on standard error."""
    said = refusal(folder(tmp_path, interactions=b"user_id,item_id,timestamp\na,1,5\nb,\xd8"))
    assert said is not None
    assert "interactions.csv: line 3 is not UTF-8 text" in said


@settings(files, max_examples=300)
@given(
    content=st.lists(st.sampled_from([b"a", b"\xc3\xa9", b"\xe2\x82\xac", b"\xd8", b"\n"])),
    size=st.integers(1, 7),
)
def test_read_in_pieces_of_any_size_it_is_the_text_or_no_utf8(
    tmp_path: Path, content: list[bytes], size: int
) -> None:
    path, whole = tmp_path / "t.csv", b"text," + b"".join(content)
    path.write_bytes(whole)
    with closing(PlainText(path, TextFormat(), strict=True)) as text:
        try:
            whole.decode()
        except UnicodeDecodeError:
            with pytest.raises(UnicodeDecodeError):
                list(iter(lambda: text.read(size), b""))
        else:
            assert b"".join(iter(lambda: text.read(size), b"")) == whole


@settings(files, max_examples=150)
@given(data=st.data())
def test_any_bytes_as_parquet_end_as_tables_or_as_one_line(tmp_path: Path, data: st.DataObject) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = folder(tmp_path)
    path = place / "interactions.parquet"
    pq.write_table(pa.table({"user_id": ["a", "b"], "item_id": [1, 2], "timestamp": [5, 6]}), path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    path.write_bytes(content[:end])
    said = refusal(place)
    path.unlink()
    assert said is None or ("\n" not in said and "interactions.parquet" in said)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\n\n \n", "the file is empty"),
        (b"item_id,ann\xe9e\nx,1\n", r"line 1 is not UTF-8.*save the file as UTF-8"),
        (b"item_id,title\nx,1\ny,caf\xe9\n", r"line 3 is not UTF-8"),
        (b"item_id,title\nx,a\0b\n", "NUL byte"),
        ("item_id,title\nx,a\n".encode("utf-16-le"), "NUL byte"),
        (b"item_id,title\nx,a\n\xff".replace(b"item", b"\xff\xfeitem"), "utf-16"),
        (b'"item_id,title\nx,a\n', "quote opened in its first line is never closed"),
        (b'item_id,title\nx,a\ny,"b\n', "quote opened on line 3 is never closed"),
        (b"item_id,a,a\nx,1,2\n", "two columns have the same name: a"),
        (b"item_id;title\nx;1\n", "no column item_id.*separated by ';'"),
        (b"\x1f\x8b\x08\0\0\0", "gzip: unpack it"),
        (b"PK\x03\x04rest", "workbook"),
        (b"PAR1PAR1", r"call it \.parquet"),
        (b"item_id," + b"x" * (2 << 20) + b"\n", "first line has more than"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as refused:
        read(folder(tmp_path, interactions=written(EVENTS), items=content))
    assert str(refused.value).startswith("items.csv")
    assert "\n" not in str(refused.value)


def test_a_table_that_is_a_header_alone_has_no_rows(tmp_path: Path) -> None:
    tables = read(folder(tmp_path, interactions=written(EVENTS), items=b"item_id,title"))
    assert tables.items.to_pylist() == [{"item_id": "x", "title": None}, {"item_id": "y", "title": None}]
    with pytest.raises(DataError, match=r"interactions\.csv: no interaction"):
        read(folder(tmp_path, interactions=b"user_id,item_id\n"))


def test_ragged_rows_are_named_by_line_whatever_ends_them(tmp_path: Path) -> None:
    lines = ["", "user_id,item_id,timestamp", "a,x,1", "", "a,x", "b,y,2,3", "b,y,2"]
    for end in ("\n", "\r\n", "\r"):
        tables = read(folder(tmp_path, interactions=end.join(lines) + end), 1.0)
        assert [reject.line for reject in tables.about.inputs[0].first] == [5, 6]
        assert tables.interactions.num_rows == 2


def test_names_with_spaces_round_them_and_columns_without_one(tmp_path: Path) -> None:
    tables = read(folder(tmp_path, interactions=b",user_id, item_id ,timestamp\n0,a,x,5\n1,b,y,6\n"))
    assert tables.interactions["item_id"].to_pylist() == ["x", "y"]
    assert any(re.search("column without a name", note) for note in tables.facts.notes)
