from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from loadtests.bench.inputs import World
from loadtests.bench.result import Spread
from loadtests.bench.rounds import FULL, Effort
from loadtests.bench.suites import retrieval
from loadtests.bench.suites.retrieval import Found, clustered, measure, repeats_of, uniform

WORLD = World(Path(), Path(), Path())  # this suite reads no bundle
TINY = Effort(quick=True, rounds=2, seconds=0.0, repeats=2)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "QUICK_SIZES", ((2_000, 8), (3_000, 16)))
    monkeypatch.setattr(retrieval, "UNIFORM", (2_000, 8))
    monkeypatch.setattr(retrieval, "READ", 1 << 16)
    monkeypatch.setattr(retrieval, "QUERIES", 4)


@pytest.mark.usefixtures("tiny")
def test_the_quick_form_measures_every_arm_of_every_size_in_every_round() -> None:
    section = retrieval.run(TINY, WORLD)
    [sizes] = section.tables
    assert [row[0] for row in sizes.rows] == [
        "2,000 x 8, clustered",
        "3,000 x 16, clustered",
        "2,000 x 8, uniform",
    ]
    for row in sizes.rows:
        assert len(row) == len(sizes.columns)
        spreads = [cell for cell in row if isinstance(cell, Spread)]
        assert len(spreads) == 5
        assert all(len(cell.values) == 2 and cell.low > 0 for cell in spreads)
    assert not section.goals


@pytest.mark.usefixtures("tiny")
def test_the_run_leaves_torchs_threads_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> Found:
        assert torch.get_num_threads() == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(retrieval, "measure", interrupted)
    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        retrieval.run(TINY, WORLD)
    assert torch.get_num_threads() == before


def test_recall_is_measured_not_assumed() -> None:
    easy = measure(4_000, 16, clustered, lambda: 1e9, TINY)
    hard = measure(4_000, 64, uniform, lambda: 1e9, TINY)
    assert hard.recall < easy.recall <= 1
    assert easy.limit == Spread((4 * 4_000 * 16 / 1e9,) * 2)


def test_the_goals_are_those_of_a_million_with_neighbourhoods() -> None:
    one = Spread((1.0,))
    size = Found(1_000_000, 128, "clustered", one, Spread((1.4,)), one, Spread((0.0625,)), 0.96)
    small, even = replace(size, n=10_000), replace(size, data="uniform")
    goals = retrieval._goals([small, size, even])
    assert [(goal.found.median, goal.reached) for goal in goals] == [(1.4, True), (22.4, True), (0.96, True)]


@pytest.mark.parametrize("data", [clustered, uniform])
def test_made_vectors_are_unit_float32_rows_and_repeat(data) -> None:  # type: ignore[no-untyped-def]  # parametrised by pytest
    rows = data(500, 12)
    assert (rows.dtype, rows.shape) == (np.float32, (500, 12))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    assert rows.tobytes() == data(500, 12).tobytes()


def test_clustered_vectors_have_the_effective_dimension_they_claim() -> None:
    rows = clustered(20_000, 64)
    power = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2
    assert 10 < power.sum() ** 2 / (power**2).sum() < 20


def test_large_arrays_are_asked_less_often() -> None:
    assert repeats_of(1_000, FULL) == FULL.repeats
    assert repeats_of(1_280_000_000, FULL) == 5
