"""GPU: exact retrieval, and ranking by one graph of kernels. Needs CUDA; imports torch, numpy and what every
suite speaks in only, so that it runs on a bare GPU machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from loadtests.bench.result import Cell, Section, Spread, Table
from loadtests.bench.rounds import Effort, in_turn, median_seconds
from loadtests.bench.world import World

Arm = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Attributes:
    items, width, k: of the catalogue and of an answer.
    batches: queries at once.
    chunk: items whose scores are in memory at once; 65,536 x 1,024 queries in bfloat16 are 128 MiB.
    candidates, features, knots: of one ranking; about those of the served ranker.
    """

    items: int = 1_000_000
    width: int = 128
    k: int = 100
    batches: tuple[int, ...] = (1, 4, 16, 64, 256, 1024)
    chunk: int = 65_536
    candidates: int = 1_500
    features: int = 9
    knots: int = 19


def run(effort: Effort, world: World) -> Section:
    if not torch.cuda.is_available():
        return Section("gpu", "GPU", "", skipped="no CUDA device on this machine")
    device = torch.device("cuda")
    sizes = Sizes()
    return Section(
        name="gpu",
        title="GPU",
        text=(
            f"{torch.cuda.get_device_name(device)}. Retrieval: top {sizes.k} of {sizes.items:,} x "
            f"{sizes.width} in bfloat16, by one product and one selection, by the same in chunks, and by "
            "chunks through torch.compile. The limit is the vectors' bytes over the bandwidth of a plain "
            "read, in the same rounds. Ranking: the additive ranker as a torch module, eagerly and as a CUDA "
            "graph. Every time is up to the device's answer (synchronised), data already there."
        ),
        tables=(measure_retrieval(device, sizes, effort), measure_ranking(device, sizes, effort)),
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
    found = [_ms(seconds[name]) if name in seconds else "not run" for name in ("whole", "chunks", "compiled")]
    return (len(queries), *found, _ms(limit), fastest.over(limit), rate)


class AdditiveCurves(torch.nn.Module):
    """A sum of piecewise linear curves, one a feature, level beyond their ends: what the additive ranker
    scores by, without a loop over features or a branch on data, so that a graph can hold it."""

    def __init__(
        self, knots: Sequence[NDArray[np.float32]], tables: Sequence[NDArray[np.float32]], bias: float
    ) -> None:
        """Args:
        knots, tables: float32 [k_f] per feature, at least two, ascending places and the values there.
        """
        super().__init__()
        longest = max(len(k) for k in knots)
        places = np.full((len(knots), longest), np.inf, np.float32)  # none lies beyond the last knot
        values = np.zeros((len(knots), longest), np.float32)
        for row, (knot, table) in enumerate(zip(knots, tables, strict=True)):
            places[row, : len(knot)], values[row, : len(table)] = knot, table
        self.places: Tensor
        self.values: Tensor
        self.first: Tensor
        self.last: Tensor
        self.register_buffer("places", torch.from_numpy(places))
        self.register_buffer("values", torch.from_numpy(values))
        self.register_buffer("first", torch.tensor([[knot[0]] for knot in knots]))
        self.register_buffer("last", torch.tensor([[knot[-1]] for knot in knots]))
        self.bias = bias

    def forward(self, rows: Tensor) -> Tensor:
        """float32 [c] of rows float32 [c, f]."""
        x = torch.clamp(rows.T.contiguous(), self.first, self.last)
        left = (torch.searchsorted(self.places, x, right=True) - 1).clamp(0, self.places.shape[1] - 2)
        low, high = self.places.gather(1, left), self.places.gather(1, left + 1)
        curve = torch.lerp(
            self.values.gather(1, left), self.values.gather(1, left + 1), (x - low) / (high - low)
        )
        return curve.sum(0) + self.bias


def captured(module: torch.nn.Module, rows: Tensor) -> Callable[[Tensor], Tensor]:
    """The module as a CUDA graph for rows of this shape. The tensor returned is overwritten by the next call.
    As https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs says: warm up aside, then capture."""
    held = rows.clone()
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch has no types for it
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            module(held)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        scores: Tensor = module(held)

    def replay(fresh: Tensor) -> Tensor:
        held.copy_(fresh)
        graph.replay()
        return scores

    return replay


def measure_ranking(device: torch.device, sizes: Sizes, effort: Effort) -> Table:
    rng = np.random.default_rng(0)
    shape = (sizes.features, sizes.knots)
    knots = np.sort(rng.standard_normal(shape, dtype=np.float32), 1)
    module = AdditiveCurves(list(knots), list(rng.standard_normal(shape, dtype=np.float32)), 0.0).to(device)
    rows = tuple(_ranking_row(module, batch, sizes, effort) for batch in sizes.batches)
    title = f"Ranking {sizes.candidates:,} candidates a request, {sizes.features} features"
    return Table(title, ("requests at once", "eager, ms", "graph, ms", "graph ÷ eager", "requests/s"), rows)


@torch.inference_mode()
def _ranking_row(module: AdditiveCurves, batch: int, sizes: Sizes, effort: Effort) -> tuple[Cell, ...]:
    device = module.values.device
    generator = torch.Generator(device).manual_seed(batch)
    rows = torch.randn(batch * sizes.candidates, sizes.features, generator=generator, device=device)
    arms: dict[str, Arm] = {"eager": lambda: module(rows)}
    if rows.is_cuda:
        graph = captured(module, rows)
        arms["graph"] = lambda: graph(rows)
    seconds = _seconds(arms, device, effort)
    eager, best = seconds["eager"], seconds.get("graph", seconds["eager"])
    rate = Spread(tuple(batch / value for value in best.values))
    if "graph" not in seconds:
        return (batch, _ms(eager), "not run", "not run", rate)
    return (batch, _ms(eager), _ms(best), best.over(eager), rate)


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


def _ms(seconds: Spread) -> Spread:
    return Spread(tuple(1e3 * value for value in seconds.values))
