import pytest

from loadtests.bench.load import Load
from loadtests.bench.peers import cache_figures
from loadtests.bench.peers.cache_figures import Cached


def load(p50: float, rate: float = 100.0) -> Load:
    return Load(rate, p50, p50 * 2, p50 * 3, errors=0, non_2xx=0)


ROUND = Cached(
    noop=load(0.5),
    validated=load(0.75),
    hit=load(1.0),
    hits=load(10.0, 1_000.0),
    misses=load(60.0, 250.0),
    zipf=load(20.0, 640.0),
    share=0.75,
)


def test_a_hit_is_counted_in_no_ops() -> None:
    hit, rate, late = cache_figures.goals([ROUND])
    assert hit.found.values == (pytest.approx(2.0),)
    assert "and nothing else, takes 1.50 of a no-op" in hit.limit
    assert not rate.reached
    assert late.found.values == (60.0,)
    assert late.limit == "at that rate 32 connections wait 50 ms in the mean; the p99 of hits alone is 30"


def test_a_mixture_of_hits_and_misses_takes_the_time_of_both() -> None:
    _, rate, _ = cache_figures.goals([ROUND])
    # three hits at 1 ms and one miss at 4
    assert ROUND.mixed == pytest.approx(4 / 7 * 1_000)
    assert rate.limit.startswith("hits alone are answered at 1000 a second and misses alone at 250")
    assert rate.limit.endswith("makes 571 of this mixture")


def test_every_row_has_a_cell_for_each_column() -> None:
    table = cache_figures.table([ROUND, ROUND])
    assert len(table.rows) == 6
    assert all(len(row) == len(table.columns) for row in table.rows)
