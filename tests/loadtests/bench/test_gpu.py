from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench.inputs import World
from loadtests.bench.result import Spread, Table
from loadtests.bench.rounds import Effort
from loadtests.bench.shapes import shaped
from loadtests.bench.suites import gpu
from loadtests.bench.suites.gpu import Sizes, Unequal, check, measure_answers, measure_retrieval, runtimes
from loadtests.bench.suites.scale import sessions

TINY = Effort(quick=True, rounds=2, seconds=0.0, repeats=2)
FEW = Sizes(users=100, catalogue=170, items=500, width=8, k=10, batches=(1, 3), chunk=128)
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")),
]


def test_without_cuda_it_is_skipped_with_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    section = gpu.run(TINY, World(Path(), Path(), Path()))
    assert section.skipped == "no CUDA device on this machine"
    assert section.tables == ()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("measure", [measure_answers, measure_retrieval])
def test_every_batch_size_has_a_row_of_positive_figures(
    measure: Callable[[torch.device, Sizes, Effort], Table], device: str
) -> None:
    table = measure(torch.device(device), FEW, TINY)
    assert [row[0] for row in table.rows] == [1, 3]
    for row in table.rows:
        assert len(row) == len(table.columns)
        assert all(isinstance(cell, Spread) and len(cell.values) == 2 and cell.low > 0 for cell in row[1:])


async def test_other_scores_or_other_items_are_an_error() -> None:
    world = shaped(100, 170)
    query = sessions(world, 10)[0]
    pipeline = gpu._pipeline(world, runtimes(torch.device("cpu"))[gpu.ONNX], 4)
    [answer] = await gpu._answers(pipeline, [query])
    check([answer], [answer])
    shown = answer.shown
    assert shown.score is not None
    for score in (shown.score + 2 * gpu.TOLERANCE, shown.score[::-1]):
        with pytest.raises(Unequal, match="differs by"):
            check([replace(answer, shown=replace(shown, score=score))], [answer])
    better = replace(shown, item_index=shown.item_index + 1_000, score=shown.score + 1)
    with pytest.raises(Unequal):
        check([replace(answer, shown=better)], [answer])


@given(st.integers(0, 2**32 - 1), st.integers(5, 90), st.integers(1, 5), st.integers(1, 100))
def test_chunks_find_what_the_whole_does(seed: int, n: int, k: int, chunk: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(n, 8, generator=generator)
    queries = torch.randn(3, 8, generator=generator)
    index, score = gpu.top_k_chunked(vectors, queries, k, chunk)
    expected, best = gpu.top_k_whole(vectors, queries, k)
    torch.testing.assert_close(score, best)
    torch.testing.assert_close((queries @ vectors.T).gather(1, index), best)
    assert expected.shape == index.shape == (3, k)
    assert all(len(set(row)) == k for row in index.tolist())
