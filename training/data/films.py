"""What GroupLens writes in its cells: titles with years and trailing articles, genre names, codes.

Pure functions on one cell. Does not belong here: files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

GENRES_100K = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *(
        "Fantasy",
        "Film-Noir",
        "Horror",
        "Musical",
        "Mystery",
        "Romance",
        "Sci-Fi",
        "Thriller",
        "War",
        "Western",
    ),
)
"""The 19 flags of `u.item`, in the order of `u.genre`."""

OCCUPATIONS_1M = (
    *("other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service"),
    *("doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer"),
    *("programmer", "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer"),
    *("tradesman/craftsman", "unemployed", "writer"),
)
"""Occupation by code, from the README of ml-1m."""

NO_GENRE = frozenset({"", "unknown", "(no genres listed)"})
CANONICAL_GENRE = {"Children": "Children's"}
"""One name for one genre: GroupLens's READMEs say Children's, its newer files Children."""

_ARTICLES = "The|A|An|Le|La|Les|L'|Un|Une|Il|Lo|Gli|Der|Die|Das|El|Los|Las"
_TRAILING_ARTICLE = re.compile(rf"^(.+), ({_ARTICLES})$")
_YEAR = re.compile(r"^(.*?)\s*\((\d{4})(?:[-\u2013]\d{0,4})?\)\s*(?:\(?V\)?)?$")
_ASIDE = re.compile(r"\(([^()]*)\)")
_UNKNOWN_TITLES = frozenset({"", "unknown", "unkonwn"})


def split_title(raw: str) -> tuple[str | None, int | None]:
    """`"Sting, The (1973)"` → `("The Sting", 1973)`; None for what is not known.

    A range of years gives its first, as series have. Titles in brackets after the main one are turned too.
    """
    text = raw.strip()
    found = _YEAR.match(text)
    year = int(found[2]) if found else None
    name = found[1].strip() if found else text
    if not name or (year is None and name.lower() in _UNKNOWN_TITLES):
        return None, year
    main, bracket, rest = name.partition(" (")
    asides = _ASIDE.sub(lambda match: f"({_article_first(match[1])})", bracket + rest)
    return _article_first(main) + asides, year


def canonical_genres(names: Iterable[str]) -> list[str]:
    """Genre names under one spelling, without those that say there is none."""
    stripped = (name.strip() for name in names)
    return [CANONICAL_GENRE.get(name, name) for name in stripped if name not in NO_GENRE]


def _article_first(title: str) -> str:
    found = _TRAILING_ARTICLE.match(title)
    if not found:
        return title
    return f"{found[2]}{'' if found[2].endswith(chr(39)) else ' '}{found[1]}"
