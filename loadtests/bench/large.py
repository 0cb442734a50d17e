"""A large catalogue's tables, written as Parquet: power-law popularity, and niches, so that there is
something to learn.

    python -m loadtests.bench.large FOLDER --users 200000 --items 1000000 --interactions 10000000

Every item belongs to one niche; a user likes a few, popular ones more often, and chooses in four of five
events among the popular items of one of them, else among all. Does not belong here: worlds of latent vectors,
as `marquee data --dataset synthetic` makes them: of a million items only the genre can be learned there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
from numpy.typing import NDArray

Int64 = NDArray[np.int64]

NICHE_ITEMS = 200
"""Items of a niche on average: twice what item-to-item keeps of an item's neighbours."""
NICHES_OF_A_USER = 6
IN_NICHE = 0.8
"""Share of events within the user's niches."""
EXPONENT = 0.8
"""Zipf exponent of popularity, of niches and of the items in one."""
START, SPAN_S = 1_577_836_800, 365 * 86_400
GROUP_ROWS = 1 << 20
"""Rows of a row group, and events drawn at once."""


def write(folder: Path, users: int, items: int, interactions: int, seed: int = 0) -> None:
    """Writes `interactions.parquet`, `items.parquet` and `users.parquet`; equal arguments, equal tables. No
    pair of user and item is there twice, so that the interactions are a few percent fewer than asked for."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    niches = max(1, items // NICHE_ITEMS)
    niche_of = np.sort(
        rng.integers(0, niches, items)
    )  # an item's rank within its niche follows from its place
    starts = np.searchsorted(niche_of, np.arange(niches + 1))
    shown = rng.permutation(items)  # ids in no order of niche
    liked = _zipf(rng, niches, (users, NICHES_OF_A_USER))
    activity = rng.lognormal(0.0, 1.0, users)
    of = np.repeat(np.arange(users), rng.multinomial(interactions, activity / activity.sum()))
    favour = rng.integers(0, NICHES_OF_A_USER, len(of)) * rng.integers(0, 2, len(of))  # the first one more
    niche = liked[of, favour]
    size = starts[niche + 1] - starts[niche]
    within = starts[niche] + _rank(rng.random(len(of)), size)
    everywhere = rng.permutation(items)[_rank(rng.random(len(of)), np.full(len(of), items))]
    item = np.where((rng.random(len(of)) < IN_NICHE) & (size > 0), within, everywhere)
    pairs = np.unique(of * items + item)
    user, item = np.divmod(rng.permutation(pairs), items)
    timestamp = START + rng.integers(0, SPAN_S, len(user))
    order = np.argsort(timestamp, kind="stable")
    _events(folder / "interactions.parquet", user[order], shown[item[order]], timestamp[order])
    genre = np.empty(items, np.int64)
    genre[shown] = niche_of % 40
    pq.write_table(
        pa.table(
            {
                "item_id": _ids("i", np.arange(items)),
                "title": _ids("Item ", np.arange(items)),
                "genre": _ids("genre-", genre),
                "year": pa.array(rng.integers(1990, 2020, items), pa.int32()),
            }
        ),
        folder / "items.parquet",
    )
    segment = _ids("segment-", liked[:, 0] % 12)
    pq.write_table(
        pa.table({"user_id": _ids("u", np.arange(users)), "segment": segment}), folder / "users.parquet"
    )


def _zipf(rng: np.random.Generator, n: int, shape: tuple[int, int]) -> Int64:
    return _rank(rng.random(shape), np.full(shape, n))


def _rank(uniform: NDArray[np.float64], n: Int64) -> Int64:
    """Ranks from 0 up to each n, by a power law: the inverse of its distribution, continuous."""
    power = 1 - EXPONENT
    rank: Int64 = ((uniform * ((n + 1.0) ** power - 1) + 1) ** (1 / power) - 1).astype(np.int64)
    return np.minimum(rank, np.maximum(n - 1, 0))


def _events(path: Path, user: Int64, item: Int64, timestamp: Int64) -> None:
    schema = pa.schema(
        [
            ("user_id", pa.string()),
            ("item_id", pa.string()),
            ("value", pa.float32()),
            ("timestamp", pa.int64()),
        ]
    )
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, len(user), GROUP_ROWS):
            some = slice(start, start + GROUP_ROWS)
            writer.write_table(
                pa.table(
                    [
                        _ids("u", user[some]),
                        _ids("i", item[some]),
                        pa.array(np.ones(len(user[some]), np.float32)),
                        pa.array(timestamp[some]),
                    ],
                    schema=schema,
                )
            )


def _ids(prefix: str, index: Int64) -> pa.Array:
    return pc.binary_join_element_wise(prefix, pa.array(index).cast(pa.string()), "")


def main(
    folder: Path,
    users: Annotated[int, typer.Option(min=1)] = 200_000,
    items: Annotated[int, typer.Option(min=1)] = 1_000_000,
    interactions: Annotated[int, typer.Option(min=1)] = 10_000_000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Write a large catalogue's tables, for `marquee data --dataset-path FOLDER`."""
    write(folder, users, items, interactions, seed)


if __name__ == "__main__":
    typer.run(main)
