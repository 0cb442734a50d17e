from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.bench.result import Spread
from loadtests.bench.rounds import Effort
from loadtests.bench.suites import gpu
from loadtests.bench.suites.gpu import AdditiveCurves, Sizes, measure_ranking, measure_retrieval
from loadtests.bench.world import World
from training.models.ranker import AdditiveRanker

TINY = Effort(quick=True, rounds=2, seconds=0.0, repeats=2)
FEW = Sizes(items=500, width=8, k=10, batches=(1, 3), chunk=128, candidates=20)
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
@pytest.mark.parametrize("measure", [measure_retrieval, measure_ranking])
def test_every_batch_size_has_a_row_of_positive_figures(measure, device: str) -> None:  # type: ignore[no-untyped-def]  # parametrised by pytest
    table = measure(torch.device(device), FEW, TINY)
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


@settings(deadline=None)
@given(st.lists(st.integers(2, 9), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_the_module_scores_as_the_served_ranker(lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    knots = [np.cumsum(rng.uniform(0.1, 1, length)).astype(np.float32) for length in lengths]
    tables = [rng.standard_normal(length, dtype=np.float32) for length in lengths]
    rows = rng.uniform(-1, 8, (40, len(lengths))).astype(np.float32)  # within the knots and beyond both ends
    rows[0], rows[1] = [knot[0] for knot in knots], [knot[-1] for knot in knots]
    ranker = AdditiveRanker([str(f) for f in range(len(lengths))], knots, tables, 0.5)
    module = AdditiveCurves(knots, tables, 0.5)
    np.testing.assert_allclose(module(torch.from_numpy(rows)).numpy(), ranker.score(rows), rtol=0, atol=1e-4)


def test_a_feature_that_is_not_a_number_gives_none() -> None:
    module = AdditiveCurves([np.array([0, 1], np.float32)], [np.array([2, 3], np.float32)], 0.0)
    scores = module(torch.tensor([[torch.nan], [0.5], [torch.inf], [-torch.inf]]))
    assert scores.isnan().tolist() == [True, False, False, False]
    assert scores[1:].tolist() == [2.5, 3.0, 2.0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_the_graph_scores_fresh_rows_as_the_module_does() -> None:
    knots, tables = np.linspace(-1, 1, 5, dtype=np.float32), np.arange(5, dtype=np.float32)
    module = AdditiveCurves([knots], [tables], 0.0).cuda()
    first, fresh = torch.rand(30, 1, device="cuda"), -torch.rand(30, 1, device="cuda")
    torch.testing.assert_close(gpu.captured(module, first)(fresh), module(fresh))
