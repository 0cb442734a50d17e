"""Retrieval: how near it comes to what memory allows, what an ANN saves and loses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from loadtests.bench.inputs import World
from loadtests.bench.result import Goal, Section, Spread, Table
from loadtests.bench.rounds import Effort, in_turn, median_seconds
from serving.types import Float32
from training.models.ann import AnnIndex
from training.models.index import ExactIndex

K = 100
SIZES = ((10_000, 64), (100_000, 64), (1_000_000, 64), (1_000_000, 128))
QUICK_SIZES = ((10_000, 64), (100_000, 64))
UNIFORM = (100_000, 64)
GOAL_SIZE = (1_000_000, 128)
QUERIES = 32
READ = 128 * 2**20  # float32 values of the read that the bandwidth is measured by: 512 MiB, beyond any cache

TEXT = f"""\
One thread: a replica computes on one. Time is held against the limit: the bytes of the vectors over the
bandwidth of a plain read of 512 MiB, measured in the same rounds; a catalogue that fits a cache can be
faster. Vectors are made: *clustered* is an uneven mixture of Gaussians on the sphere, of about the effective
dimension that the two-tower model learns; *uniform* has no neighbourhoods, and serving chooses the exact
index for it. {QUERIES} queries come from the same distribution and are not in the index.
"""


@dataclass(frozen=True, slots=True)
class Found:
    """One size; seconds a query. `limit` is reading the vectors once."""

    n: int
    d: int
    data: str
    limit: Spread
    exact: Spread
    torch: Spread
    ann: Spread
    recall: float


def run(effort: Effort, world: World) -> Section:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            bandwidth = reader()
            sizes = QUICK_SIZES if effort.quick else SIZES
            found = [measure(*size, clustered, bandwidth, effort) for size in sizes]
            found.append(measure(*UNIFORM, uniform, bandwidth, effort))
    finally:
        torch.set_num_threads(threads)
    return Section("retrieval", "Retrieval: exact and approximate", TEXT, (_table(found),), _goals(found))


def clustered(n: int, d: int, seed: int = 0) -> Float32:
    """float32 [n, d], unit rows: a mixture of Gaussians on the sphere, a cluster to a thousand items, of
    uneven sizes (Pareto, 1.5), its variances falling as 1, 1/2, 1/3, ... along directions of no axis.

    So spread, 64 dimensions do the work of 14 (participation ratio); the vectors that the two-tower model
    learns from MovieLens-100K, that of 14 among an item's hundred nearest and 17 all together.
    """
    rng = np.random.default_rng(seed)
    falling = (1 / np.sqrt(np.arange(1, d + 1))).astype(np.float32)
    count = max(16, n // 1_000)
    share = rng.pareto(1.5, count) + 0.1
    centres = rng.standard_normal((count, d), dtype=np.float32) * falling
    rows = rng.standard_normal((n, d), dtype=np.float32)
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0].astype(np.float32)
    for part in np.array_split(rows, max(1, n // 100_000)):  # in place: no second array of this size
        part *= falling
        part += centres[rng.choice(count, len(part), p=share / share.sum())]
        part[:] = part @ turn
    return _unit(rows)


def uniform(n: int, d: int, seed: int = 0) -> Float32:
    """float32 [n, d], everywhere on the sphere alike: no neighbourhood to find, the worst case of an ANN."""
    return _unit(np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32))


def _unit(rows: Float32) -> Float32:
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def measure(
    n: int, d: int, data: Callable[[int, int], Float32], bandwidth: Callable[[], float], effort: Effort
) -> Found:
    """The last `QUERIES` rows of what `data` gives are asked for, and not in the index."""
    rows = data(n + QUERIES, d)
    vectors, queries = rows[:n], rows[n:]
    exact, ann, tensor = ExactIndex(vectors), AnnIndex(vectors), torch.from_numpy(vectors)
    arms: dict[str, Callable[[Float32], object]] = {
        "exact": lambda query: exact.search(query, K),
        "torch": lambda query: torch.topk(torch.mv(tensor, torch.from_numpy(query)), K),
        "ann": lambda query: ann.search(query, K),
    }
    hits = [np.isin(exact.search(query, K)[0], ann.search(query, K)[0]).mean() for query in queries]
    repeats = repeats_of(n * d, effort)
    timers = {name: _timer(arm, queries, repeats) for name, arm in arms.items()}
    found = in_turn({**timers, "bandwidth": bandwidth}, effort.rounds)
    limit = Spread(tuple(4 * n * d / rate for rate in found.pop("bandwidth")))
    spread = {name: Spread(tuple(seconds)) for name, seconds in found.items()}
    return Found(n, d, data.__name__, limit, recall=float(np.mean(hits)), **spread)


def repeats_of(values: int, effort: Effort) -> int:
    """Fewer calls of what takes long, about as many values read in all; at least 5."""
    return max(5, min(effort.repeats, effort.repeats * 10_000_000 // values))


def _timer(arm: Callable[[Float32], object], queries: Float32, repeats: int) -> Callable[[], float]:
    def seconds() -> float:
        turn = iter(np.resize(np.arange(len(queries)), repeats + 1))  # one more: the call that is not counted
        return median_seconds(lambda: arm(queries[next(turn)]), repeats)

    return seconds


def reader() -> Callable[[], float]:
    """Measures bytes per second of reading a large float32 array by torch's sum, the fastest plain read that
    was found (numpy's max reaches 0.8 of it, its sum 0.7)."""
    array = torch.ones(READ)
    return lambda: 4 * READ / median_seconds(array.sum, 5)


def _table(found: Sequence[Found]) -> Table:
    columns = (
        "items x width, data", "exact, ms", "exact ÷ limit", "torch ÷ limit", "ANN, ms", "exact ÷ ANN",
        f"ANN recall@{K}",
    )  # fmt: skip
    rows = tuple(
        (
            f"{size.n:,} x {size.d}, {size.data}",
            size.exact.times(1e3),
            size.exact.over(size.limit),
            size.torch.over(size.limit),
            size.ann.times(1e3),
            size.exact.over(size.ann),
            size.recall,
        )
        for size in found
    )
    return Table(f"One query, top {K}", columns, rows)


def _goals(found: Sequence[Found]) -> tuple[Goal, ...]:
    for size in found:
        if (size.n, size.d, size.data) == (*GOAL_SIZE, clustered.__name__):
            name = f"top {K} of {size.n:,} x {size.d}"
            return (
                Goal(f"exact {name} ÷ reading the vectors once", size.exact.over(size.limit), "at most", 1.5),
                Goal(f"ANN {name}: rate ÷ exact rate", size.exact.over(size.ann), "at least", 20),
                Goal(f"ANN {name}: recall", Spread((size.recall,)), "at least", 0.95),
            )
    return ()
