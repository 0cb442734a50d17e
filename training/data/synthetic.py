"""A seeded world to order: users and items with real latent structure, for tests of scale.

Items lie in a latent space round the centres of their genres; users are mixtures of the same centres. A user
comes in sessions, each with a mood; tastes drift from one mixture to another over the whole time. From
candidates drawn by popularity (Zipf) a user takes one by a softmax over affinity, and nothing twice. So
popularity alone explains some of the events, and a model of taste explains more.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.data.manifest import About, DataError
from training.data.tables import Tables

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

GENRES = 12
"""Enough that tastes differ, few enough that each genre has items in a world of a hundred."""
POPULARITY_EXPONENT = 0.5
"""Zipf exponent of the popularity candidates are drawn by. Chosen with `TASTE` and `CANDIDATES` so that a
world of MovieLens-100K's size is about as hard: leave-one-out Recall@10 of popularity and of item-to-item
cosine is 0.060 and 0.104 (mean of seeds 10 to 12), there 0.083 and 0.104. Its head is lighter: a tenth of the
items has 24 % of the events, there 43 %."""
CANDIDATES = 16
"""Items a user weighs for one event: more makes taste count more against popularity."""
TASTE = 8.0
"""Inverse temperature of the choice. At 0 only popularity is left."""
MOOD = 0.3
"""Standard deviation of a session's own direction, beside tastes of unit length."""
SESSION_EVENTS = 8
"""Mean events of a session."""
SESSION_SECONDS = 600
"""Mean time of an event after its session's start."""
START, SPAN = 1_577_836_800, 2 * 365 * 86_400
"""Unix seconds of the first possible event (2020-01-01), and the length of the world: two years."""
MAX_DENSITY = 0.25
"""Share of all pairs of user and item that may be ordered. Above it taste has little left to choose from."""
BLOCK = 1 << 15
"""Events chosen at once: bounds memory to tens of MB at 16 candidates of 16 dimensions."""


@dataclass(frozen=True, slots=True)
class _World:
    items: Float32  # [m, d] unit vectors
    popularity: NDArray[np.float64]  # [m] cumulative, last 1
    early: Float32  # [u, d] unit vectors: tastes at the start
    late: Float32  # [u, d] and at the end


def synthesize(users: int, items: int, interactions: int, seed: int, latent: int = 16) -> Tables:
    """A world of exactly these sizes. The same arguments give the same tables, byte for byte.

    Items have `title`, `genres` and `year`; users have `segment`, the genre they like best. The tables hold
    every user and item, those without events too. Rows are in order of time.

    Raises:
        DataError: a size is not positive, or the pairs cannot hold so many interactions.
    """
    if min(users, items, interactions, latent) < 1:
        raise DataError("a synthetic world needs at least one user, item and interaction")
    if interactions > MAX_DENSITY * users * items:
        most = int(MAX_DENSITY * users * items)
        raise DataError(f"{users:,} users and {items:,} items hold at most {most:,} synthetic interactions")
    rng = np.random.default_rng(seed)
    centres = _unit(rng.standard_normal((GENRES, latent), dtype=np.float32))
    membership = _memberships(rng, items)
    item_factors = _unit(membership @ centres + 0.35 * _noise(rng, items, latent) / np.sqrt(latent))
    early, late = rng.dirichlet([0.15] * GENRES, (2, users)).astype(np.float32)
    late = 0.5 * (early + late)
    order = rng.permutation(items)
    weight = (order + 1.0) ** -POPULARITY_EXPONENT
    world = _World(
        item_factors, np.cumsum(weight / weight.sum()), _unit(early @ centres), _unit(late @ centres)
    )
    user = np.repeat(np.arange(users), _activity(rng, users, items, interactions))
    timestamp, mood = _sessions(rng, user, latent)
    item, value = _choices(rng, world, user, timestamp, mood)
    in_time = np.argsort(timestamp, kind="stable")
    return Tables.assemble(
        _interactions(user[in_time], item[in_time], value[in_time], timestamp[in_time]),
        _item_table(rng, membership),
        pa.table({"user_id": _ids("u", users), "segment": _genre_names(early.argmax(1))}),
        About(
            "synthetic", f"synthesize({users}, {items}, {interactions}, {seed}, {latent})", "generated: free"
        ),
    )


def _memberships(rng: np.random.Generator, items: int) -> Float32:
    """float32 [m, g]: one to three genres an item, equal weights that add up to 1."""
    rank = rng.random((items, GENRES)).argsort(1).argsort(1)
    chosen = (rank < rng.integers(1, 4, (items, 1))).astype(np.float32)
    shares: Float32 = chosen / chosen.sum(1, keepdims=True)
    return shares


def _activity(rng: np.random.Generator, users: int, items: int, interactions: int) -> Int64:
    """int64 [u]: events of each user, log-normal, at most half the catalogue, adding up exactly."""
    share = rng.lognormal(0.0, 1.0, users)
    cap = max(1, items // 2)
    counts = np.zeros(users, np.int64)
    while (missing := interactions - counts.sum()) > 0:
        open_share = np.where(counts < cap, share, 0.0)
        counts = np.minimum(counts + rng.multinomial(missing, open_share / open_share.sum()), cap)
    return counts


def _sessions(rng: np.random.Generator, user: Int64, latent: int) -> tuple[Int64, Float32]:
    """Unix seconds int64 [n] and mood float32 [n, d] of each event."""
    sessions = -(-np.bincount(user) // SESSION_EVENTS)
    first = np.concatenate(([0], np.cumsum(sessions)[:-1]))
    session = first[user] + (rng.random(len(user)) * sessions[user]).astype(np.int64)
    start = rng.integers(START, START + SPAN, int(sessions.sum()))
    moods = MOOD * _noise(rng, int(sessions.sum()), latent) / np.sqrt(latent)
    return start[session] + rng.exponential(SESSION_SECONDS, len(user)).astype(np.int64), moods[session]


def _choices(
    rng: np.random.Generator, world: _World, user: Int64, timestamp: Int64, mood: Float32
) -> tuple[Int64, Float32]:
    """The item of each event, int64 [n], none twice for a user, and its value, float32 [n].

    Every round chooses for the events that have no item yet or one their user already had. Later rounds draw
    fewer candidates and less by popularity, in the end one at random: as nobody takes more than half of the
    catalogue, every second draw is then a new item and the rounds end.
    """
    item, affinity = np.full(len(user), -1), np.zeros(len(user), np.float32)
    open_events = np.arange(len(user))
    for turn in count():
        if not len(open_events):
            break
        shape, flatness = max(1, CANDIDATES >> (turn // 2)), min(1.0, turn / 8)
        for block in np.array_split(open_events, -(-len(open_events) // BLOCK)):
            candidates = _candidates(rng, world, (len(block), shape), flatness)
            item[block], affinity[block] = _choose(
                rng, world, user[block], timestamp[block], mood[block], candidates
            )
        _, first = np.unique(user * len(world.items) + item, return_index=True)
        again = np.ones(len(user), bool)
        again[first] = False
        open_events = np.flatnonzero(again)
    noisy = 3.0 + 2.0 * affinity + rng.normal(0.0, 0.5, len(user)).astype(np.float32)
    return item, np.clip(np.round(noisy), 1.0, 5.0).astype(np.float32)


def _candidates(rng: np.random.Generator, world: _World, shape: tuple[int, int], flatness: float) -> Int64:
    """int64 of that shape: items drawn by popularity, a share of `flatness` evenly."""
    popular = np.searchsorted(world.popularity, rng.random(shape)).clip(max=len(world.items) - 1)
    return np.where(rng.random(shape) < flatness, rng.integers(0, len(world.items), shape), popular)


def _choose(
    rng: np.random.Generator, world: _World, user: Int64, timestamp: Int64, mood: Float32, candidates: Int64
) -> tuple[Int64, Float32]:
    """One item for each event by Gumbel-max over its candidates [n, c], and its affinity in [-1, 1]."""
    age = ((timestamp - START) / SPAN).astype(np.float32)[:, None]
    taste = _unit(world.early[user] * (1 - age) + world.late[user] * age + mood)
    affinity = np.einsum("nd,ncd->nc", taste, world.items[candidates])
    best = (TASTE * affinity + rng.gumbel(size=affinity.shape)).argmax(1)
    rows = np.arange(len(user))
    return candidates[rows, best], affinity[rows, best]


def _interactions(user: Int64, item: Int64, value: Float32, timestamp: Int64) -> pa.Table:
    return pa.table(
        {
            "user_id": _coded("u", user),
            "item_id": _coded("i", item),
            "value": pa.array(value),
            "timestamp": pa.array(timestamp),
        }
    )


def _item_table(rng: np.random.Generator, membership: Float32) -> pa.Table:
    items = len(membership)
    row, genre = np.nonzero(membership)
    offsets = np.concatenate(([0], np.cumsum(np.bincount(row, minlength=items)))).astype(np.int32)
    return pa.table(
        {
            "item_id": _ids("i", items),
            "title": _ids("Item ", items),
            "genres": pa.ListArray.from_arrays(pa.array(offsets), _genre_names(genre)),
            "year": pa.array(rng.integers(1990, 2020, items), pa.int32()),
        }
    )


def _coded(prefix: str, index: Int64) -> pa.Array:
    used, code = np.unique(index, return_inverse=True)
    return pa.DictionaryArray.from_arrays(pa.array(code, pa.int32()), _labels(prefix, used))


def _ids(prefix: str, count: int) -> pa.Array:
    return _labels(prefix, np.arange(count))


def _genre_names(index: NDArray[np.int64]) -> pa.Array:
    return _labels("genre-", np.arange(GENRES)).take(pa.array(index))


def _labels(prefix: str, index: Int64) -> pa.Array:
    return pa.array([f"{prefix}{number}" for number in index.tolist()], pa.string())


def _noise(rng: np.random.Generator, rows: int, latent: int) -> Float32:
    return rng.standard_normal((rows, latent), dtype=np.float32)


def _unit(vectors: Float32) -> Float32:
    norms = np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)
    unit: Float32 = (vectors / norms).astype(np.float32, copy=False)
    return unit
