"""GPU: exact retrieval by plain torch, against what the device's memory allows. Needs CUDA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from loadtests.bench.inputs import World
from loadtests.bench.result import Cell, Section, Spread, Table
from loadtests.bench.rounds import Effort, in_turn, median_seconds

Arm = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Attributes:
    items, width, k: of the catalogue and of an answer.
    batches: queries at once.
    chunk: items whose scores are in memory at once; 65,536 x 256 queries in bfloat16 are 32 MiB.
    """

    items: int = 1_000_000
    width: int = 64
    k: int = 100
    batches: tuple[int, ...] = (1, 4, 16, 64, 256)
    chunk: int = 65_536


def run(effort: Effort, world: World) -> Section:
    if not torch.cuda.is_available():
        return Section("gpu", "GPU", "", skipped="no CUDA device on this machine")
    device = torch.device("cuda")
    sizes = Sizes()
    return Section(
        name="gpu",
        title="GPU",
        text=(
            f"{torch.cuda.get_device_name(device)}. Top {sizes.k} of {sizes.items:,} x {sizes.width} in "
            "bfloat16, by one product and one selection, by the same in chunks, and by chunks through "
            "torch.compile. The limit is the vectors' bytes over the bandwidth of a plain read, in the same "
            "rounds. Every time is up to the device's answer (synchronised), data already there."
        ),
        tables=(measure_retrieval(device, sizes, effort),),
    )


def top_k_whole(vectors: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices int64 and scores [b, k], best first, of vectors [n, d] for queries [b, d]."""
    score, index = torch.topk(queries @ vectors.T, k)
    return index, score


def top_k_chunked(vectors: Tensor, queries: Tensor, k: int, chunk: int) -> tuple[Tensor, Tensor]:
    """As `top_k_whole`, with scores of `chunk` items in memory at once: the best of all are among the best
    of their chunks."""
    scores, indices = [], []
    for start in range(0, len(vectors), chunk):
        part = vectors[start : start + chunk]
        score, index = torch.topk(queries @ part.T, min(k, len(part)))
        scores.append(score)
        indices.append(index + start)
    score, place = torch.topk(torch.cat(scores, 1), k)
    return torch.cat(indices, 1).gather(1, place), score


def measure_retrieval(device: torch.device, sizes: Sizes, effort: Effort) -> Table:
    generator = torch.Generator(device).manual_seed(0)
    vectors = _unit(torch.randn(sizes.items, sizes.width, generator=generator, device=device)).bfloat16()
    rows = tuple(
        _retrieval_row(
            vectors,
            _unit(torch.randn(batch, sizes.width, generator=generator, device=device)).bfloat16(),
            sizes,
            effort,
        )
        for batch in sizes.batches
    )
    title = f"Exact top {sizes.k} of {sizes.items:,} x {sizes.width}, bfloat16"
    columns = ("queries at once", "whole, ms", "chunks, ms", "compiled chunks, ms", "limit, ms",
               "fastest ÷ limit", "queries/s")  # fmt: skip
    return Table(title, columns, rows)


def _retrieval_row(vectors: Tensor, queries: Tensor, sizes: Sizes, effort: Effort) -> tuple[Cell, ...]:
    arms: dict[str, Arm] = {
        "whole": lambda: top_k_whole(vectors, queries, sizes.k),
        "chunks": lambda: top_k_chunked(vectors, queries, sizes.k, sizes.chunk),
        "limit": lambda: vectors.view(torch.int16).sum(dtype=torch.int64),
    }
    if vectors.is_cuda:  # on a CPU this needs a C++ compiler, and measures nothing that is claimed
        compiled = torch.compile(top_k_chunked)
        arms["compiled"] = lambda: compiled(vectors, queries, sizes.k, sizes.chunk)
    seconds = _seconds(arms, vectors.device, effort)
    limit = seconds.pop("limit")
    fastest = min(seconds.values(), key=lambda spread: spread.median)
    rate = Spread(tuple(len(queries) / value for value in fastest.values))
    found = [
        seconds[name].times(1e3) if name in seconds else "not run" for name in ("whole", "chunks", "compiled")
    ]
    return (len(queries), *found, limit.times(1e3), fastest.over(limit), rate)


def _seconds(arms: dict[str, Arm], device: torch.device, effort: Effort) -> dict[str, Spread]:
    def timer(arm: Arm) -> Callable[[], float]:
        def work() -> None:
            arm()
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        return lambda: median_seconds(work, effort.repeats)

    found = in_turn({name: timer(arm) for name, arm in arms.items()}, effort.rounds)
    return {name: Spread(tuple(values)) for name, values in found.items()}


def _unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows, dim=1)
