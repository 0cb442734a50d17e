"""One request over four deployments is one trace."""

import time
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest

from tests.collector import Collector

TRACE = "0af7651916cd43dd8448eb211c80319c"
PATIENCE_S = 60.0
"""Seconds until every replica has sent its spans; a bound, not an expectation."""

STAGES = ("source:two_tower", "filter", "ranker", "diversity", "explainer")
"""Spans of replicas of their own: the ingress runs none of these stages here."""


def test_the_spans_of_all_replicas_are_one_trace(
    client: httpx.Client, collector: Collector, home: Path
) -> None:
    sampled = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    users = pq.read_table(home / "data" / "users.parquet", columns=["user_id"])["user_id"]
    body = {"user_id": users[9].as_py(), "count": 7, "explain": True, "timeout_ms": 5_000}
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:  # a stage may miss its budget once on a busy machine
        reply = client.post("/v1/recommendations", json=body, headers=sampled)
        assert reply.headers["traceparent"].startswith(f"00-{TRACE}-")
        spans = {span.span_id: span for span in collector.spans}
        found = {span.name: span for span in spans.values()}
        exchanges = {key for key, span in spans.items() if span.name == "POST /v1/recommendations"}
        if all(name in found and found[name].parent_span_id in exchanges for name in STAGES):
            break
        time.sleep(0.2)
    else:
        pytest.fail(f"only these spans came: {sorted(found)}")
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
