from __future__ import annotations

import re

import numpy as np
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from serving.config import Budgets
from serving.http.api import create_api
from serving.http.envelope import Envelope
from serving.observe.prometheus import AGE_BUCKETS, REQUEST_BUCKETS, STAGE_BUCKETS, PrometheusRecorder
from serving.traffic.live import Live
from serving.types import Recommendation
from tests.serving.doubles import FixedSource, batch_of, fails, query_of
from tests.serving.fakes import CONFIG, call, engine_of, post


def samples(recorder: PrometheusRecorder) -> dict[str, float]:
    """Every sample of the text format as `name|value|…`, label values in the order of the labels' names,
    without times of creation."""
    families = text_string_to_metric_families(recorder.exposition().decode())
    return {
        sample.name + "".join(f"|{value}" for value in sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def answer_of(tier, **fields) -> Recommendation:
    return Recommendation(query_of(**fields), batch_of([1]), ("s",), tier, (), (), {})


async def test_requests_of_every_kind_leave_their_metrics():
    recorder = PrometheusRecorder()
    sources = (
        FixedSource("broken", fault=fails),
        FixedSource("popular", batch=batch_of(range(10)), personal=False),
    )
    engine = engine_of(*sources, recorder=recorder)
    app = create_api(Live.of(engine), CONFIG, recorder)
    recorder.in_service("films", "7")
    for user in ("ann", "bob"):
        await post(app, "/v1/recommendations", {"user_id": user, "count": 4})
    await post(app, "/v1/recommendations", {"user_id": "ann", "count": 0})
    await post(app, "/v1/items/i7/similar", {})
    reply = await call(app, "/metrics", method="GET")
    assert re.match(r"text/plain; version=", reply.headers["content-type"])
    found = samples(recorder)
    assert found["marquee_requests_total|/v1/recommendations|200"] == 2
    assert found["marquee_requests_total|/v1/recommendations|422"] == 1
    assert found["marquee_requests_total|/metrics|200"] == 1
    assert found["marquee_request_seconds_count|/v1/recommendations"] == 3
    assert found["marquee_stage_seconds_count|source:popular"] == 2
    assert found["marquee_stage_candidates_in_total|diversity"] == 8 + 10  # ann has seen two of the ten
    assert found["marquee_stage_candidates_out_total|diversity"] == 4 + 4
    assert found["marquee_degraded_total|ConnectionError|source:broken"] == 2
    assert found["marquee_responses_total|popular"] == 2
    assert found["marquee_feature_age_seconds_count"] == 1
    assert found["marquee_feature_age_seconds_sum"] == pytest.approx(12.3456)
    assert found["marquee_bundle_info|films|7"] == 1


@pytest.mark.parametrize("tier", ["personalized", "session", "popular"])
def test_answers_are_counted_by_tier(tier):
    recorder = PrometheusRecorder()
    recorder.answered(answer_of(tier, user_id=None, session=True))
    assert samples(recorder)[f"marquee_responses_total|{tier}"] == 1


def test_items_similar_to_an_item_have_no_tier():
    recorder = PrometheusRecorder()
    recorder.answered(answer_of("popular", user_id=None, items=np.array([1], np.int32)))
    assert not any(name.startswith("marquee_responses_total") for name in samples(recorder))


def test_looks_into_the_cache_are_counted_by_their_result():
    recorder = PrometheusRecorder()
    for hit in (True, False, True):
        recorder.cache(hit)
    found = samples(recorder)
    assert found["marquee_cache_lookups_total|hit"] == 2
    assert found["marquee_cache_lookups_total|miss"] == 1


def test_only_the_bundle_in_service_is_shown():
    recorder = PrometheusRecorder()
    recorder.in_service("films", "7")
    recorder.in_service("films", "8")
    assert [name for name in samples(recorder) if "bundle" in name] == ["marquee_bundle_info|films|8"]


async def test_what_is_in_flight_is_counted_until_it_is_over():
    recorder = PrometheusRecorder()

    async def app(scope, receive, send):
        assert samples(recorder)["marquee_replica_in_flight"] == 1
        raise LookupError("x")

    reply = await call(Envelope(app, recorder), "/")
    assert reply.status == 500
    assert samples(recorder)["marquee_replica_in_flight"] == 0


def test_two_recorders_share_nothing():
    one, other = PrometheusRecorder(), PrometheusRecorder()
    one.request("/v1/rank", 200, 0.01)
    assert "marquee_requests_total|/v1/rank|200" not in samples(other)
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("marquee")]


@pytest.mark.parametrize("buckets", [REQUEST_BUCKETS, STAGE_BUCKETS, AGE_BUCKETS])
def test_buckets_rise(buckets):
    assert list(buckets) == sorted(set(buckets))


def test_buckets_reach_the_configured_times():
    budgets = Budgets()
    assert REQUEST_BUCKETS[-1] >= budgets.request_max / 1e3
    assert STAGE_BUCKETS[-1] >= max(budgets.source, budgets.ranker) / 1e3
