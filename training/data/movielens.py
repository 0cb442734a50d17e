"""MovieLens in every layout that GroupLens has published, recognised by its files.

    u.data, u.item, u.user            ml-100k: tabs and bars, latin-1, 19 genre flags
    ml-100k.inter, .item, .user       the same, as in the wheel named in `sources`
    ratings.dat, movies.dat           ml-1m (with users.dat), ml-10m (with tags.dat): `::`
    ratings.csv, movies.csv           ml-latest-small, ml-20m, ml-25m, ml-32m, with tags.csv and links.csv

All give items with `title`, `year` int32 and `genres` list<string>. The last adds `tags` list<string>, the
most frequent first, `imdb_id` and `tmdb_id`. 100k and 1m give users with `age` int32 (in 1m the lower bound
of a range), `gender`, `occupation` and `zip_code`.

The files are described in the README of each set at https://grouplens.org/datasets/movielens/.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.resources.abc import Traversable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from features.progress import Step
from training.data.cells import blank_to_null
from training.data.columns import (
    Column,
    coded_identifier,
    identifier,
    integer,
    timestamp,
    value,
)
from training.data.films import GENRES_100K, OCCUPATIONS_1M, canonical_genres, split_title
from training.data.ingest import Ingest
from training.data.manifest import MAX_REJECTED_SHARE, About, DataError, Facts
from training.data.own import is_own, read_own
from training.data.plain_text import TextFormat, encoding_of
from training.data.sources import fetch, open_folder
from training.data.tables import Tables

LICENCE = (
    "MovieLens, GroupLens Research, University of Minnesota: for research; no redistribution and no "
    "commercial use without permission; cite Harper and Konstan 2015, https://doi.org/10.1145/2827872. "
    "The full terms are in the data set's README."
)

TAGS_AN_ITEM = 10
"""Tags kept for an item. Past the tenth most are one person's words, and each widens the vocabulary."""

_NAMED = 6
"""Files that are named of a folder in which nothing is known."""

_Parts = tuple[pa.Table, pa.Table, pa.Table | None]
_Reader = Callable[[Traversable, Ingest], _Parts]


def load(
    dataset: str,
    path: Path | None,
    cache: Path,
    progress: Step,
    max_rejected_share: float = MAX_REJECTED_SHARE,
    source: str | None = None,
) -> Tables:
    """The data set called `dataset`, downloaded once into `cache`; or what is at `path`, if given.

    `path` is a folder or a zip, in any layout above or of the user's own tables (see `own`); `source` says
    where it comes from, if not from there.

    Raises:
        DataError: it cannot be had, is in no known layout, or has too many malformed rows.
    """
    ingest = Ingest(max_rejected_share, progress)
    if path is None:
        found = fetch(dataset, cache, progress)
        return read_movielens(found.folder, dataset, found.source, ingest)
    folder = open_folder(path)
    if is_own(folder):
        return read_own(folder, ingest, source or str(path))
    return read_movielens(folder, path.resolve().stem, source or str(path), ingest)


def read_movielens(folder: Traversable, name: str, source: str, ingest: Ingest) -> Tables:
    """The tables of a folder in one of the layouts above.

    Raises:
        DataError: no layout fits, or a file is refused.
    """
    present = {entry.name for entry in folder.iterdir()}
    reader = next((reader for needed, reader in LAYOUTS if present.issuperset(needed)), None)
    if reader is None:
        raise DataError(
            f"{source}: no known layout: {_held(folder)}. MovieLens has u.data with u.item and u.user, "
            "ratings.dat with movies.dat, or ratings.csv with movies.csv; your own data has interactions.csv "
            "or .parquet (docs/data.md)"
        )
    interactions, items, users = reader(folder, ingest)
    # A layout's events are read first, then its items; its users, where it has any, last.
    events, films, *others = [report.file for report in ingest.reports]
    joins = [ingest.joined(interactions, items, "item_id", (events, films))]
    if users is not None:
        joins.append(ingest.joined(interactions, users, "user_id", (events, others[-1])))
    about = About(name, source, LICENCE, tuple(ingest.reports))
    facts = Facts(joins=tuple(joins), notes=tuple(ingest.notes))
    return Tables.assemble(interactions, items, users, about, facts)


def _held(folder: Traversable) -> str:
    """What is in a folder that has no known layout, as far as a line has room for it."""
    names = [
        entry.name if entry.is_file() or entry.is_dir() else f"{entry.name} (not a file that can be read)"
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
    ]
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f"it holds {', '.join(names[:_NAMED])}{more}" if names else "it is empty"


def _read_100k(folder: Traversable, ingest: Ingest) -> _Parts:
    tabs = TextFormat("\t", ("user", "item", "rating", "timestamp"), quoted=False)
    bars = replace(tabs, delimiter="|", encoding=encoding_of(folder / "u.item"))
    interactions = ingest.text(folder / "u.data", tabs, _events("user", "item", "rating", "timestamp"))
    flags = tuple(f"flag {genre}" for genre in GENRES_100K)
    films = ingest.text(
        folder / "u.item",
        replace(bars, header=("item", "title", "released", "video released", "url", *flags)),
        [identifier("item", "item_id"), Column("title", "title"), *(Column(flag, flag) for flag in flags)],
        unique="item_id",
    )
    raised = zip(*(films[flag].to_pylist() for flag in flags), strict=True)
    genres = [[genre for genre, flag in zip(GENRES_100K, row, strict=True) if flag == "1"] for row in raised]
    users = ingest.text(
        folder / "u.user",
        replace(bars, header=("user", "age", "gender", "occupation", "zip code")),
        _people("user", "age", "gender", "occupation", "zip code"),
        unique="user_id",
    )
    return interactions, _items(films["item_id"], films["title"], genres), users


def _read_wheel(folder: Traversable, ingest: Ingest) -> _Parts:
    tabs = TextFormat("\t", quoted=False)
    interactions = ingest.text(
        folder / "ml-100k.inter",
        tabs,
        _events("user_id:token", "item_id:token", "rating:float", "timestamp:float"),
    )
    films = ingest.text(
        folder / "ml-100k.item",
        tabs,
        [
            identifier("item_id:token", "item_id"),
            Column("movie_title:token_seq", "title"),
            Column("release_year:token", "year"),
            Column("class:token_seq", "genres"),
        ],
        unique="item_id",
    )
    years = films["year"].to_pylist()
    titles = [
        f"{title} ({year})" if year.isdigit() else title
        for title, year in zip(films["title"].to_pylist(), years, strict=True)
    ]
    genres = [cell.split(" ") for cell in films["genres"].to_pylist()]
    users = ingest.text(
        folder / "ml-100k.user",
        tabs,
        _people("user_id:token", "age:token", "gender:token", "occupation:token", "zip_code:token"),
        unique="user_id",
    )
    return interactions, _items(films["item_id"], pa.chunked_array([titles], pa.string()), genres), users


def _read_dat(folder: Traversable, ingest: Ingest) -> _Parts:
    form = TextFormat("::", ("user", "item", "rating", "timestamp"), quoted=False)
    interactions = ingest.text(folder / "ratings.dat", form, _events("user", "item", "rating", "timestamp"))
    movies = folder / "movies.dat"
    films = ingest.text(
        movies,
        replace(form, header=("item", "title", "genres"), encoding=encoding_of(movies)),
        [identifier("item", "item_id"), Column("title", "title"), Column("genres", "genres")],
        unique="item_id",
    )
    items = _items(films["item_id"], films["title"], _barred(films["genres"]))
    if (tags := folder / "tags.dat").is_file():
        tag_form = replace(form, header=("user", "item", "tag", "timestamp"), encoding=encoding_of(tags))
        items = _with_tags(items, ingest.text(tags, tag_form, _tags("item", "tag")))
    if not (people := folder / "users.dat").is_file():
        return interactions, items, None
    users = ingest.text(
        people,
        replace(
            form, header=("user", "gender", "age", "occupation", "zip code"), encoding=encoding_of(people)
        ),
        _people("user", "age", "gender", "occupation", "zip code"),
        unique="user_id",
    )
    names = {str(code): name for code, name in enumerate(OCCUPATIONS_1M)}
    occupations = [names.get(code) for code in users["occupation"].to_pylist()]
    position = users.column_names.index("occupation")
    return interactions, items, users.set_column(position, "occupation", pa.array(occupations, pa.string()))


def _read_csv(folder: Traversable, ingest: Ingest) -> _Parts:
    form = TextFormat()
    interactions = ingest.text(
        folder / "ratings.csv", form, _events("userId", "movieId", "rating", "timestamp")
    )
    films = ingest.text(
        folder / "movies.csv",
        form,
        [identifier("movieId", "item_id"), Column("title", "title"), Column("genres", "genres")],
        unique="item_id",
    )
    items = _items(films["item_id"], films["title"], _barred(films["genres"]))
    if (tags := folder / "tags.csv").is_file():
        items = _with_tags(items, ingest.text(tags, form, _tags("movieId", "tag")))
    if (links := folder / "links.csv").is_file():
        columns = [identifier("movieId", "item_id"), Column("imdbId", "imdb_id"), Column("tmdbId", "tmdb_id")]
        items = _with_links(items, ingest.text(links, form, columns, unique="item_id"))
    return interactions, items, None


LAYOUTS: tuple[tuple[frozenset[str], _Reader], ...] = (
    (frozenset({"u.data", "u.item", "u.user"}), _read_100k),
    (frozenset({"ml-100k.inter", "ml-100k.item", "ml-100k.user"}), _read_wheel),
    (frozenset({"ratings.dat", "movies.dat"}), _read_dat),
    (frozenset({"ratings.csv", "movies.csv"}), _read_csv),
)


def _events(user: str, item: str, rating: str, time: str) -> list[Column]:
    return [
        coded_identifier(user, "user_id"),
        coded_identifier(item, "item_id"),
        value(rating),
        timestamp(time),
    ]


def _people(user: str, age: str, gender: str, occupation: str, zip_code: str) -> list[Column]:
    return [
        identifier(user, "user_id"),
        integer(age, "age"),
        Column(gender, "gender"),
        Column(occupation, "occupation"),
        Column(zip_code, "zip_code"),
    ]


def _tags(item: str, tag: str) -> list[Column]:
    return [coded_identifier(item, "item_id"), Column(tag, "tag", _parse_tag, "a tag")]


def _parse_tag(column: pa.Array) -> pa.Array:
    return pc.utf8_lower(blank_to_null(column))


def _items(ids: pa.ChunkedArray, titles: pa.ChunkedArray, genres: list[list[str]]) -> pa.Table:
    split = [split_title(title) for title in titles.to_pylist()]
    return pa.table(
        {
            "item_id": ids,
            "title": pa.array([title for title, _ in split], pa.string()),
            "year": pa.array([year for _, year in split], pa.int32()),
            "genres": pa.array([canonical_genres(names) for names in genres], pa.list_(pa.string())),
        }
    )


def _barred(cells: pa.ChunkedArray) -> list[list[str]]:
    return [cell.split("|") for cell in cells.to_pylist()]


def _with_tags(items: pa.Table, tags: pa.Table) -> pa.Table:
    """Adds `tags`: each item's most frequent ones, in lower case, ties in alphabetical order."""
    plain = tags.set_column(0, "item_id", tags["item_id"].cast(pa.string()))
    counted = plain.group_by(["item_id", "tag"]).aggregate([([], "count_all")])
    ranked = counted.sort_by([("count_all", "descending"), ("tag", "ascending")])
    kept: dict[str, list[str]] = {}
    for item, tag in zip(ranked["item_id"].to_pylist(), ranked["tag"].to_pylist(), strict=True):
        mine = kept.setdefault(item, [])
        if len(mine) < TAGS_AN_ITEM:
            mine.append(tag)
    column = [kept.get(item, []) for item in items["item_id"].to_pylist()]
    return items.append_column("tags", pa.array(column, pa.list_(pa.string())))


def _with_links(items: pa.Table, links: pa.Table) -> pa.Table:
    """Adds `imdb_id` and `tmdb_id`, text: they are names, not amounts."""
    rows = pc.index_in(items["item_id"], value_set=links["item_id"].combine_chunks())
    for name in ("imdb_id", "tmdb_id"):
        items = items.append_column(name, blank_to_null(links[name].take(rows)))
    return items
