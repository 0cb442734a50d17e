"""Signals from one server's own /metrics."""

from __future__ import annotations

import math

import httpx
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from k8s.errors import Unavailable
from k8s.scrape import ScrapeSource, parse, quantile, signals
from tests.k8s.worlds import Clock


def page(ok: int, errors: int = 0, bundle: str = "v2") -> str:
    total = ok + errors
    return f"""\
marquee_bundle_requests_total{{bundle="{bundle}",outcome="ok"}} {ok}
marquee_bundle_requests_total{{bundle="{bundle}",outcome="error"}} {errors}
marquee_bundle_seconds_bucket{{bundle="{bundle}",le="0.1"}} {total}
marquee_bundle_seconds_bucket{{bundle="{bundle}",le="+Inf"}} {total}
marquee_bundle_coverage_ratio{{bundle="{bundle}"}} 0.5
marquee_bundle_refused_total{{reason="Checksum"}} 1
"""


def test_the_difference_of_two_scrapes() -> None:
    found = signals(parse(page(100)), parse(page(300, 10)), "v1", "v2")
    assert (found.candidate.requests, found.candidate.errors) == (210.0, 10.0)
    assert found.candidate.p99_s == pytest.approx(0.099)
    assert (found.candidate.coverage, found.candidate.psi) == (0.5, None)
    assert found.production.requests == 0
    assert found.refused == 0


def test_a_server_that_started_anew_counts_from_zero() -> None:
    assert signals(parse(page(1_000)), parse(page(30)), "v1", "v2").candidate.requests == 30


def test_the_window_is_kept() -> None:
    clock, counts = Clock(), iter(range(0, 10_000, 100))
    transport = httpx.MockTransport(lambda _: httpx.Response(200, text=page(next(counts))))
    source = ScrapeSource("http://server", transport, clock)
    requests = []
    for _ in range(8):
        requests.append(source.read("v1", "v2", 20.0).candidate.requests)
        clock.sleep(5.0)
    assert requests == [0, 100, 200, 300, 400, 400, 400, 400]


@pytest.mark.parametrize("answer", [httpx.Response(500), httpx.Response(200, text="<html> { nonsense")])
def test_what_is_no_metrics_is_no_data(answer: httpx.Response) -> None:
    with pytest.raises(Unavailable):
        ScrapeSource("http://server", httpx.MockTransport(lambda _: answer)).read("v1", "v2", 20.0)


def test_no_server_is_no_data() -> None:
    with pytest.raises(Unavailable, match="no metrics"):
        ScrapeSource("http://127.0.0.1:1").read("v1", "v2", 20.0)


@example(values=[1.0, 1.0, 1.0, 0.5, 0.5, 0.5], q=0.5)  # was an ulp beyond the bucket
@given(st.lists(st.floats(0.001, 9.9), min_size=1, max_size=300), st.floats(0.01, 0.99))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(values: list[float], q: float) -> None:
    bounds = [0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, math.inf]
    edges = [(bound, float(sum(value <= bound for value in values))) for bound in bounds]
    true = float(np.quantile(values, q, method="inverted_cdf"))
    found = quantile(q, edges)
    assert found is not None
    low = max([0.0, *(bound for bound in bounds if bound < true)])
    high = min(bound for bound in bounds if bound >= true)
    assert low <= found <= high


def test_nothing_observed_has_no_quantile_and_beyond_the_last_edge_is_that_edge() -> None:
    assert quantile(0.99, []) is None
    assert quantile(0.99, [(1.0, 0.0), (math.inf, 0.0)]) is None
    assert quantile(0.99, [(1.0, 0.0), (math.inf, 5.0)]) == 1.0
