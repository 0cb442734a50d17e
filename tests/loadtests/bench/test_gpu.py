from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench.inputs import World
from loadtests.bench.result import Spread
from loadtests.bench.rounds import Effort
from loadtests.bench.suites import gpu
from loadtests.bench.suites.gpu import Sizes, measure_retrieval

TINY = Effort(quick=True, rounds=2, seconds=0.0, repeats=2)
FEW = Sizes(items=500, width=8, k=10, batches=(1, 3), chunk=128)
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
def test_every_batch_size_has_a_row_of_positive_figures(device: str) -> None:
    table = measure_retrieval(torch.device(device), FEW, TINY)
    assert [row[0] for row in table.rows] == [1, 3]
    for row in table.rows:
        assert len(row) == len(table.columns)
        spreads = [cell for cell in row if isinstance(cell, Spread)]
        assert all(len(cell.values) == 2 and cell.low > 0 for cell in spreads)
        assert len(spreads) >= 2
        assert ("not run" in row) == (device == "cpu")


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
