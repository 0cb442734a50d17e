"""GPU: what is served, its networks on the CPU and on the device, and exact retrieval by plain torch. Needs
CUDA."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from loadtests.bench import inputs
from loadtests.bench.inputs import World
from loadtests.bench.result import Cell, Section, Spread, Table
from loadtests.bench.rounds import Effort, in_turn, median_seconds
from loadtests.bench.shapes import Shaped, shaped
from loadtests.bench.suites.scale import HISTORY, sessions
from serving.build import compose
from serving.config import CacheConfig, ServeConfig
from serving.pipeline import Pipeline
from serving.runtime.factory import runtime
from serving.runtime.protocol import Runtime
from serving.runtime_options import RuntimeName, RuntimeOptions, TorchOptions
from serving.types import Diversity, Float32, Query, Recommendation

ONNX, EAGER, GRAPHS = "ONNX Runtime, CPU", "torch, eager", "torch, graphs"

TOLERANCE = 1e-3
"""Of a score on the device, absolute, against the CPU's: other orders of float32 sums, of several layers."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Attributes:
    users, catalogue: of the pipeline's world.
    items, width, k: of the exact search and its answer.
    batches: requests, or queries, at once.
    chunk: items whose scores are in memory at once; 65,536 x 256 queries in bfloat16 are 32 MiB.
    """

    users: int = 1_000
    catalogue: int = 10_000
    items: int = 1_000_000
    width: int = 64
    k: int = 100
    batches: tuple[int, ...] = (1, 4, 16, 64, 256)
    chunk: int = 65_536


class Unequal(Exception):
    """The device answers otherwise than the CPU, so that comparing their times would mean nothing."""


def run(effort: Effort, world: World) -> Section:
    if not torch.cuda.is_available():
        return Section("gpu", "GPU", "", skipped="no CUDA device on this machine")
    device, sizes = torch.device("cuda"), Sizes()
    return Section(
        name="gpu",
        title="GPU",
        text=(
            f"{torch.cuda.get_device_name(device)}. Answers: the served pipeline in this process, of "
            f"{sizes.catalogue:,} items and untrained models, its networks computed by ONNX Runtime on the "
            f"CPU and by the runtime `torch` on the device, with and without CUDA graphs; the device's best "
            f"items and scores are the CPU's within {TOLERANCE:g}, or the suite fails. Retrieval: top "
            f"{sizes.k} of {sizes.items:,} x {sizes.width} in bfloat16, by one product and one selection, "
            "and by the same in chunks; the limit is the vectors' bytes over the bandwidth of a plain "
            "read, in the same rounds, data already there. Every time is up to the answer."
        ),
        tables=(measure_answers(device, sizes, effort), measure_retrieval(device, sizes, effort)),
    )


def runtimes(device: torch.device) -> dict[str, Runtime]:
    found = {ONNX: runtime(RuntimeName.ONNX, RuntimeOptions())}
    for name, graphs in ((EAGER, False), (GRAPHS, True)):
        options = RuntimeOptions(torch=TorchOptions(device=device.type, graphs=graphs))
        found[name] = runtime(RuntimeName.TORCH, options)
    return found


def measure_answers(device: torch.device, sizes: Sizes, effort: Effort) -> Table:
    """Raises Unequal."""
    world = shaped(sizes.users, sizes.catalogue)
    queries = sessions(world, HISTORY)
    pipelines = {
        name: _pipeline(world, networks, sizes.batches[-1]) for name, networks in runtimes(device).items()
    }
    rows: list[tuple[Cell, ...]] = []
    with asyncio.Runner() as runner:

        def answering(pipeline: Pipeline, some: Sequence[Query]) -> list[Recommendation]:
            return runner.run(_answers(pipeline, some))

        ranked = [replace(query, diversity=Diversity("none", 0.0)) for query in queries]
        reference = answering(pipelines[ONNX], ranked)
        for pipeline in pipelines.values():
            check(answering(pipeline, ranked), reference)
        for batch in sizes.batches:
            some = [queries[at % len(queries)] for at in range(batch)]
            arms = {name: partial(answering, pipeline, some) for name, pipeline in pipelines.items()}
            found = _seconds(arms, device, effort)
            times = (found[name].times(1e3) for name in pipelines)
            rate = Spread(tuple(batch / seconds for seconds in found[GRAPHS].values))
            rows.append((batch, *times, found[GRAPHS].over(found[ONNX]), rate))
    columns = (
        "requests at once", *(f"{name}, ms" for name in pipelines), f"{GRAPHS} ÷ {ONNX}", "requests/s, graphs"
    )  # fmt: skip
    return Table("Answers", columns, tuple(rows))


def _pipeline(world: Shaped, networks: Runtime, largest: int) -> Pipeline:
    budgets = inputs.PATIENT.model_copy(update={"max_batch": largest})
    config = ServeConfig(bundle="shaped", budgets=budgets, cache=CacheConfig(items=0))
    return compose(world.bundle, world.store(), config, networks=networks).recommend


async def _answers(pipeline: Pipeline, queries: Sequence[Query]) -> list[Recommendation]:
    """To queries of the same moment. Raises Unequal where a stage was lost."""
    deadline = time.monotonic() + inputs.PATIENT.request / 1e3
    answers = await asyncio.gather(*(pipeline.run(replace(query, deadline=deadline)) for query in queries))
    if lost := {stage for answer in answers for stage in answer.degraded}:
        raise Unequal(f"lost {', '.join(sorted(lost))}")
    return answers


def check(given: Sequence[Recommendation], reference: Sequence[Recommendation]) -> None:
    """Raises Unequal where an item's score differs by more than `TOLERANCE`, or one answer has better items
    than the other; items whose scores are level may change places with ones that are not shown."""
    for mine, theirs in zip(given, reference, strict=True):
        ours, expected = _by_item(mine), _by_item(theirs)
        pairs = [(ours[item], expected[item]) for item in ours.keys() & expected.keys()]
        pairs += zip(sorted(ours.values()), sorted(expected.values()), strict=True)
        if (apart := max((abs(one - other) for one, other in pairs), default=0.0)) > TOLERANCE:
            raise Unequal(f"a score differs by {apart:.2e}")


def _by_item(answer: Recommendation) -> dict[int, float]:
    shown = answer.shown
    score: Float32 = shown.retrieval_score if shown.score is None else shown.score
    return dict(zip(shown.item_index.tolist(), score.tolist(), strict=True))


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

    def rows_of(count: int) -> Tensor:
        made = torch.randn(count, sizes.width, generator=generator, device=device)
        return torch.nn.functional.normalize(made, dim=1).bfloat16()

    vectors = rows_of(sizes.items)
    rows: list[tuple[Cell, ...]] = []
    for batch in sizes.batches:
        queries = rows_of(batch)
        arms: dict[str, Callable[[], object]] = {
            "whole": partial(top_k_whole, vectors, queries, sizes.k),
            "chunks": partial(top_k_chunked, vectors, queries, sizes.k, sizes.chunk),
            "limit": partial(vectors.view(torch.int16).sum, dtype=torch.int64),
        }
        found = _seconds(arms, device, effort)
        fastest = min((found["whole"], found["chunks"]), key=lambda spread: spread.median)
        rate = Spread(tuple(batch / seconds for seconds in fastest.values))
        times = (found[name].times(1e3) for name in ("whole", "chunks", "limit"))
        rows.append((batch, *times, fastest.over(found["limit"]), rate))
    columns = ("queries at once", "whole, ms", "chunks, ms", "limit, ms", "fastest ÷ limit", "queries/s")
    return Table(f"Exact top {sizes.k} of {sizes.items:,} x {sizes.width}, bfloat16", columns, tuple(rows))


def _seconds(
    arms: Mapping[str, Callable[[], object]], device: torch.device, effort: Effort
) -> dict[str, Spread]:
    def timer(arm: Callable[[], object]) -> Callable[[], float]:
        def work() -> None:
            arm()
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        return lambda: median_seconds(work, effort.repeats)

    found = in_turn({name: timer(arm) for name, arm in arms.items()}, effort.rounds)
    return {name: Spread(tuple(values)) for name, values in found.items()}
