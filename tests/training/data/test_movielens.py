from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from features.progress import silent
from training.data.films import canonical_genres, split_title
from training.data.ingest import BLOCK_BYTES
from training.data.manifest import DataError
from training.data.movielens import TAGS_AN_ITEM, load
from training.data.tables import INTERACTIONS, Tables


def read(path: Path, share: float = 0.0) -> Tables:
    return load("ignored", path, path / "cache", silent, share)


@pytest.mark.parametrize("layout", ["100k", "wheel", "1m", "10m", "csv"])
def test_every_layout_gives_the_same_films_and_ratings(layouts: dict[str, Path], layout: str) -> None:
    tables = read(layouts[layout])
    assert tables.interactions.schema == INTERACTIONS
    assert tables.interactions.to_pylist() == [
        {"user_id": "7", "item_id": "1", "value": 5.0, "timestamp": 881250949},
        {"user_id": "8", "item_id": "1", "value": 3.0, "timestamp": 881250950},
        {"user_id": "7", "item_id": "2", "value": 4.0, "timestamp": 881250951},
    ]
    films = tables.items.select(["item_id", "title", "year", "genres"]).to_pylist()[:2]
    assert films == [
        {"item_id": "1", "title": "Toy Story", "year": 1995, "genres": ["Animation", "Children's", "Comedy"]},
        {"item_id": "2", "title": "Les Misérables", "year": 1995, "genres": ["Drama"]},
    ]
    assert tables.items.schema.field("year").type == pa.int32()
    assert [report.rejected for report in tables.about.inputs] == [0] * len(tables.about.inputs)


@pytest.mark.parametrize("layout", ["100k", "wheel"])
def test_users_of_100k(layouts: dict[str, Path], layout: str) -> None:
    users = read(layouts[layout]).users
    assert users.schema.field("age").type == pa.int32()
    assert users.to_pylist() == [
        {"user_id": "7", "age": 24, "gender": "M", "occupation": "technician", "zip_code": "85711"},
        {"user_id": "8", "age": 53, "gender": "F", "occupation": "other", "zip_code": "05201"},
    ]


def test_users_of_1m_have_their_occupation_by_name(layouts: dict[str, Path]) -> None:
    users = read(layouts["1m"]).users.to_pylist()
    assert [(user["age"], user["occupation"]) for user in users] == [
        (25, "technician/engineer"),
        (50, "other"),
    ]


def test_a_layout_without_users_has_those_of_the_ratings(layouts: dict[str, Path]) -> None:
    assert read(layouts["csv"]).users.to_pylist() == [{"user_id": "7"}, {"user_id": "8"}]


def test_tags_are_counted_whatever_their_case_and_links_stay_text(layouts: dict[str, Path]) -> None:
    items = read(layouts["csv"]).items.select(["tags", "imdb_id", "tmdb_id"]).to_pylist()
    assert items == [
        {"tags": ["pixar", "fun, really"], "imdb_id": "0114709", "tmdb_id": "862"},
        {"tags": [], "imdb_id": "0113828", "tmdb_id": None},
        {"tags": [], "imdb_id": None, "tmdb_id": None},
    ]
    assert read(layouts["10m"]).items["tags"].to_pylist()[0] == ["pixar", "fun"]


def test_only_the_most_frequent_tags_stay(layouts: dict[str, Path]) -> None:
    rows = [f"{user},1,tag{tag:02d},1" for tag in range(20) for user in range(20 - tag)]
    (layouts["csv"] / "tags.csv").write_text("\n".join(["userId,movieId,tag,timestamp", *rows]) + "\n")
    assert read(layouts["csv"]).items["tags"][0].as_py() == [f"tag{tag:02d}" for tag in range(TAGS_AN_ITEM)]


def test_a_zip_reads_like_its_folder(layouts: dict[str, Path], tmp_path: Path) -> None:
    archive = tmp_path / "ml-tiny.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for file in layouts["1m"].iterdir():
            out.write(file, f"ml-tiny/{file.name}")
    zipped, plain = load("-", archive, tmp_path, silent), read(layouts["1m"])
    assert zipped.about.name == "ml-tiny"
    assert zipped.items.equals(plain.items)
    assert zipped.users.equals(plain.users)
    assert zipped.interactions.equals(plain.interactions)


def test_separators_that_lie_across_blocks(layouts: dict[str, Path]) -> None:
    """More than one block of `::` rows whose length shares no factor with it, so that reads end anywhere."""
    rows = BLOCK_BYTES // 12
    text = "".join(f"{row % 97}::{row}::{row % 5 + 1}::{row}\n" for row in range(rows))
    (layouts["10m"] / "ratings.dat").write_text(text)
    assert len(text) > BLOCK_BYTES
    events = read(layouts["10m"]).interactions
    assert events["timestamp"].to_pylist() == list(range(rows))
    assert events["item_id"].cast(pa.string()).to_pylist() == [str(row) for row in range(rows)]


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("notes.txt", r"it holds notes\.txt"),
        ("interactions.csv.gz", r"it holds interactions\.csv\.gz"),
        ("Interactions.CSV", r"it holds Interactions\.CSV"),
        ("ratings.csv", r"it holds ratings\.csv"),
        (None, "it is empty"),
    ],
)
def test_an_unknown_folder_says_what_it_holds_and_what_would_be_known(
    tmp_path: Path, file: str | None, said: str
) -> None:
    if file is not None:
        (tmp_path / file).write_text("hello")
    with pytest.raises(DataError, match=rf"no known layout: {said}.*ratings\.csv.*interactions\.csv"):
        read(tmp_path)


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match=r"holds interactions\.csv \(not a file that can be read\)"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("layout", "file"), [("csv", "tags"), ("csv", "links"), ("10m", "tags"), ("1m", "users")]
)
def test_files_that_a_layout_may_lack(layouts: dict[str, Path], layout: str, file: str) -> None:
    for found in layouts[layout].glob(f"{file}.*"):
        found.unlink()
    assert read(layouts[layout]).interactions.num_rows == 3
    for found in layouts[layout].iterdir():
        if found.stem not in ("ratings", "movies"):
            found.unlink()
    tables = read(layouts[layout])
    assert [join.key for join in tables.facts.joins] == ["item_id"]
    assert [report.file.split(".")[0] for report in tables.about.inputs] == ["ratings", "movies"]


def test_films_of_which_none_was_rated_are_refused(layouts: dict[str, Path]) -> None:
    movies = layouts["csv"] / "movies.csv"
    movies.write_text(movies.read_text().replace("\n1,", "\nm1,").replace("\n2,", "\nm2,"))
    with pytest.raises(DataError, match=r"movies\.csv: none of its 3 ids is in ratings\.csv"):
        read(layouts["csv"])


@pytest.mark.parametrize("layout", ["100k", "wheel", "1m", "10m", "csv"])
def test_what_was_decided_and_who_joins_is_said_of_every_layout(
    layouts: dict[str, Path], layout: str
) -> None:
    for file in layouts[layout].iterdir():
        if file.name.startswith(("ratings", "u.data")) or file.suffix == ".inter":
            file.write_text(re.sub(r"8812509(\d\d)", r"8812509\g<1>000", file.read_text()))
    facts = read(layouts[layout]).facts
    assert [note for note in facts.notes if "are read as milliseconds" in note]
    assert {join.key: join.share for join in facts.joins}["item_id"] == 1.0
    assert len(facts.joins) == (1 if layout in ("10m", "csv") else 2)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    layout=st.sampled_from(["100k", "wheel", "1m", "10m", "csv"]),
    cell=st.sampled_from(
        ["²", "٣", "-1", "99", "", "NaN", "é", "1e9", "(²²²²)", ", The (0000)", "|", "\x85"]
    ),
    at=st.integers(0, 30),
)
@example(layout="1m", cell="²", at=3)
def test_no_cell_of_movielens_ends_in_a_traceback(
    layouts: dict[str, Path], layout: str, cell: str, at: int
) -> None:
    """Whatever stands in one cell, the folder is read, or refused in one line."""
    before = {file: file.read_bytes() for file in sorted(layouts[layout].iterdir(), reverse=True)}
    for file, raw in before.items():
        cells = re.split(r"(::|[\t|,\n])", raw.decode("utf-8", "replace"))
        cells[2 * (at % (len(cells) // 2))] = cell
        file.write_text("".join(cells))
    line = ""
    try:
        read(layouts[layout], 1.0)
    except DataError as refused:
        line = str(refused)
    finally:
        for file, raw in before.items():
            file.write_bytes(raw)
    assert "\n" not in line


@pytest.mark.parametrize("layout", ["100k", "wheel", "1m", "10m", "csv"])
def test_a_broken_rating_is_named_by_file_and_line(layouts: dict[str, Path], layout: str) -> None:
    name = {"100k": "u.data", "wheel": "ml-100k.inter", "csv": "ratings.csv"}.get(layout, "ratings.dat")
    path = layouts[layout] / name
    lines = path.read_text().splitlines()
    broken = lines[-1].replace("88125095", "soon")
    path.write_text("\n".join([*lines[:-1], "", broken, lines[-1]]) + "\n")
    with pytest.raises(DataError, match=rf"{name}: 1 of 4 rows .*line {len(lines) + 1}: timestamp"):
        read(layouts[layout])
    tables = read(layouts[layout], share=0.25)
    assert tables.interactions.num_rows == 3
    assert "'soon1'" in tables.about.inputs[0].first[0].why


@pytest.mark.parametrize(
    ("raw", "title", "year"),
    [
        ("Sting, The (1973)", "The Sting", 1973),
        ("Good, The Bad and The Ugly, The (1966)", "The Good, The Bad and The Ugly", 1966),
        ("Fish Called Wanda, A (1988)", "A Fish Called Wanda", 1988),
        ("Enfer, L' (1994)", "L'Enfer", 1994),
        ("Blue Angel, The (Blaue Engel, Der) (1930)", "The Blue Angel (Der Blaue Engel)", 1930),
        ("Seven (a.k.a. Se7en) (1995)", "Seven (a.k.a. Se7en)", 1995),
        ("Paris, Texas (1984)", "Paris, Texas", 1984),
        ("2001: A Space Odyssey (1968)", "2001: A Space Odyssey", 1968),
        ("Fawlty Towers (1975-1979)", "Fawlty Towers", 1975),
        ("Land Before Time III, The (1995) (V)", "The Land Before Time III", 1995),
        ("Unknown (2011)", "Unknown", 2011),
        ("1-900", "1-900", None),
        ("unkonwn", None, None),
        ("(1999)", None, 1999),
        ("", None, None),
    ],
)
def test_titles(raw: str, title: str | None, year: int | None) -> None:
    assert split_title(raw) == (title, year)


def test_genres_have_one_spelling_and_none_that_says_none() -> None:
    assert canonical_genres(["Children", "Sci-Fi", "unknown"]) == ["Children's", "Sci-Fi"]
    assert canonical_genres(["(no genres listed)"]) == canonical_genres([""]) == []


def test_the_real_100k(ml100k: Tables) -> None:
    assert (ml100k.interactions.num_rows, ml100k.items.num_rows, ml100k.users.num_rows) == (
        100_000,
        1682,
        943,
    )
    films = {row["item_id"]: row for row in ml100k.items.to_pylist()}
    assert films["50"]["title"] == "Star Wars"
    assert films["1412"]["year"] == 1995  # its year cell holds the V of "(V)"
    assert [row["item_id"] for row in films.values() if row["year"] is None] == ["267"]
    assert len({genre for row in films.values() for genre in row["genres"]}) == 18
    assert ml100k.about.licence.startswith("MovieLens")
    assert sum(report.rejected for report in ml100k.about.inputs) == 0


def test_a_folder_inside_the_folder_is_found(layouts: dict[str, Path], tmp_path: Path) -> None:
    shutil.move(layouts["1m"], tmp_path / "outer" / "ml-1m")
    assert read(tmp_path / "outer").interactions.num_rows == 3
