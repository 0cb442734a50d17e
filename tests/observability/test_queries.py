"""Dashboards and alerts against a service in this process, scraped by a real Prometheus. What only Ray makes
is left to the cluster's test, which calls the same function."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import httpx
import pytest
import uvicorn

from serving.cache import LatestAnswers
from serving.config import CacheConfig, ShadowConfig, Traffic
from serving.engine import Engine
from serving.http.api import create_api
from serving.local.ports import free_block
from serving.observe.prometheus import PrometheusRecorder
from serving.traffic.bundle_metrics import BundleMetrics
from serving.traffic.live import Live
from serving.traffic.shadow import Shadows
from serving.traffic.table import Table
from tests.observability.answers import Asked, asked, assert_every_query_answers, metrics, whether
from tests.observability.prometheus_server import need_prometheus, prometheus
from tests.serving.doubles import FixedSource, batch_of, fails
from tests.serving.fakes import CONFIG, engine_of
from training.manifest import BundleError

ELSEWHERE = re.compile(r"ray_")
"""Ray's own series."""


STARTED_S = 30.0
"""Seconds for a server to listen."""


def elsewhere(metric: str) -> bool:
    return ELSEWHERE.match(metric) is not None


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """host:port of a service that has met every case: users known and unknown, mistakes, a lost source."""
    recorder = PrometheusRecorder()
    broken = FixedSource("broken", fault=fails)
    popular = FixedSource("popular", batch=batch_of(range(20)), personal=False)
    plain = engine_of(broken, popular, recorder=recorder)
    engine = plain.with_pipeline("recommend", replace(plain.recommend, cache=LatestAnswers(CacheConfig())))
    recorder.in_service(engine.bundle, engine.version)
    recorder.online_store(True, time.time())
    port = free_block()[0]
    config = uvicorn.Config(create_api(live(engine, recorder), CONFIG, recorder), port=port, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + STARTED_S
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield f"127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def live(engine: Engine, recorder: PrometheusRecorder) -> Live:
    """The engine in production, and again under another version as a shadow."""
    metrics = BundleMetrics(recorder.registry)
    metrics.refused(BundleError("altered"))
    found = Live(metrics, Shadows(ShadowConfig(share=1.0), metrics))
    entries = [{"bundle": "a", "weight": 100}, {"bundle": "b", "shadow": True}]
    made = replace(engine, trained_at=time.time())
    found.swap(Table.of(Traffic.model_validate({"traffic": entries}), [made, replace(made, version="b")]))
    return found


@pytest.fixture(scope="module")
def busy(service: str) -> Iterator[Callable[[], None]]:
    with httpx.Client(base_url=f"http://{service}", timeout=10, trust_env=False) as client:

        def some() -> None:
            for body in ({"user_id": "ann"}, {"user_id": "nobody"}, {"user_id": "ann", "count": 0}):
                client.post("/v1/recommendations", json=body)
            client.post("/v1/items/i7/similar", json={})
            client.post("/v1/rank", json={"user_id": "ann", "item_ids": ["i1", "i2"]})
            time.sleep(0.2)  # a pace, not a wait: rates need several scrapes

        yield some


@pytest.fixture(scope="module")
def url(service: str, busy: Callable[[], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    need_prometheus()
    busy()
    with prometheus(tmp_path_factory.mktemp("prometheus"), {"marquee": service}) as found:
        yield found


def test_every_query_about_this_service_has_data(url: str, busy: Callable[[], None]) -> None:
    answered = assert_every_query_answers(url, busy, elsewhere=elsewhere)
    assert {one.where.partition(":")[0] for one in answered} >= {
        *("marquee-service", "marquee-pipeline", "marquee-features", "slo", "serving", "data")
    }


def test_no_data_is_a_failure(url: str, busy: Callable[[], None]) -> None:
    for expr in ("marquee_requests_total{status='999'}", "marquee_typo_total", "0 * up / 0"):
        with pytest.raises(AssertionError, match="no data for 1 of 1"):
            assert_every_query_answers(
                url, busy, questions=[Asked("a panel", expr)], absent={}, patience_s=0.5
            )


def test_what_cannot_be_there_must_not_be_there(url: str, busy: Callable[[], None]) -> None:
    scraped = [Asked("a panel", "up")]
    assert_every_query_answers(url, busy, questions=scraped, absent={})
    with pytest.raises(AssertionError, match="but there: up"):
        assert_every_query_answers(url, busy, questions=[], absent={"up": "says somebody"})


@pytest.mark.parametrize(
    ("expr", "names"),
    [
        ('sum by (a, b) (rate(x_total{c=~"d{1}", e!="f"}[5m])) / on () group_left () y', {"x_total", "y"}),
        ("histogram_quantile(0.5, sum by (le) (rate(x_bucket[1m])))", {"x_bucket"}),
        ("a:b:c > 14.4 * 0.001 and d == bool 0", {"a:b:c", "d"}),
        ("time() - max by (j) (x) > 26 * 3600 unless x offset 30m", {"x"}),
        ("quantile_over_time(0.5, x[3d])", {"x"}),
    ],
)
def test_the_series_that_an_expression_reads(expr: str, names: set[str]) -> None:
    assert metrics(expr) == names


def test_a_comparison_answers_whether() -> None:
    assert whether('x{a=~"b>1"} > 1 and y == 0') == 'x{a=~"b>1"} > bool 1 and y == bool 0'


def test_nothing_is_asked_of_nothing() -> None:
    for one in asked():
        assert one.metrics, one
