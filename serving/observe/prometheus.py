"""The platform's metrics, on a registry of their own. Label values come from code (routes, stages, error
classes), never from requests, so the number of series is bounded.

Does not belong here: joining the metrics of several replicas.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Literal

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serving.types import Recommendation

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST

REQUEST_BUCKETS = (
    *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05),
    *(0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0),
)
"""Seconds. Steps of about 1.5 up to the default deadline (0.5 s), so that an interpolated p99 is off by at
most half; then sparse up to the longest deadline a client may ask for (5 s)."""

STAGE_BUCKETS = (
    *(0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005),
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
)
"""Seconds. A pure stage takes about 0.1 ms, a remote one a few ms, and no stage's budget is above 0.2 s."""

AGE_BUCKETS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0, 2_592_000.0)
"""Seconds: 1 s is what streaming promises, an hour what a late batch gives, 30 days a user who went away."""


Joined = Literal["livesum", "livemin", "max"]


@dataclass(frozen=True, slots=True)
class _Stage:
    """One stage's children, bound once: `labels()` costs more than the observation."""

    seconds: Callable[[float], None]
    candidates_in: Callable[[float], None]
    candidates_out: Callable[[float], None]


def lost_stages(registry: CollectorRegistry) -> Counter:
    """Of an ingress, and of any replica whose runtime loses calls of a network."""
    return Counter("marquee_degraded", "Stages lost, by error class.", ("stage", "reason"), registry=registry)


class PrometheusRecorder:
    """`serving.observe.metrics.Recorder` and the HTTP layer's recorder, in one registry. Thread-safe."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"marquee_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"marquee_{name}", text, labels, buckets=buckets, registry=self.registry)

        def gauge(name: str, text: str, joined: Joined, *labels: str) -> Gauge:
            full = f"marquee_{name}"
            return Gauge(full, text, labels, registry=self.registry, multiprocess_mode=joined)

        self._requests = counter("requests", "HTTP requests answered.", "endpoint", "status")
        self._request_seconds = histogram(
            "request_seconds", "Time until the last byte was handed over.", REQUEST_BUCKETS, "endpoint"
        )
        self._stage_seconds = histogram("stage_seconds", "Wall time of a stage.", STAGE_BUCKETS, "stage")
        self._candidates_in = counter("stage_candidates_in", "Candidates a stage was given.", "stage")
        self._candidates_out = counter("stage_candidates_out", "Candidates a stage let through.", "stage")
        self._responses = counter("responses", "Answers to users and sessions.", "tier")
        self._degraded = lost_stages(self.registry)
        self._feature_age = histogram(
            "feature_age_seconds", "Age of the user's newest event when answering.", AGE_BUCKETS
        )
        self._bundle = Gauge(
            "marquee_bundle_info", "The bundle in service.", ("bundle", "version"), registry=self.registry
        )
        # Modes: how the exporter joins the gauges of several replicas ("Multiprocess Mode").
        self._in_flight = gauge("replica_in_flight", "Requests being answered now.", "livesum")
        self._store_up = gauge(
            "online_store_up", "1 where Redis answered the last look at it, else 0.", "livemin"
        )
        self._materialized = gauge(
            "materialized_timestamp_seconds", "When the online features were last brought up to date.", "max"
        )
        lookups = counter("cache_lookups", "Looks into the cache of answers.", "result")
        self._hit, self._miss = lookups.labels("hit"), lookups.labels("miss")
        self._request = cache(self._bind_request)
        self._stage = cache(self._bind_stage)
        self._tier = cache(self._responses.labels)

    def _bind_request(self, endpoint: str, status: int) -> tuple[Callable[[], None], Callable[[float], None]]:
        return self._requests.labels(endpoint, str(status)).inc, self._request_seconds.labels(
            endpoint
        ).observe

    def _bind_stage(self, stage: str) -> _Stage:
        return _Stage(
            self._stage_seconds.labels(stage).observe,
            self._candidates_in.labels(stage).inc,
            self._candidates_out.labels(stage).inc,
        )

    def request(self, endpoint: str, status: int, seconds: float) -> None:
        """One HTTP exchange ended; `endpoint` is the route's template, never the path itself."""
        count, observe = self._request(endpoint, status)
        count()
        observe(seconds)

    def stage(self, stage: str, seconds: float, candidates_in: int, candidates_out: int) -> None:
        bound = self._stage(stage)
        bound.seconds(seconds)
        if candidates_in:  # half of the stages are given none, and adding 0 costs as much as 1
            bound.candidates_in(candidates_in)
        if candidates_out:
            bound.candidates_out(candidates_out)

    def lost(self, stage: str, reason: str) -> None:
        self._degraded.labels(stage, reason).inc()

    def cache(self, hit: bool) -> None:
        (self._hit if hit else self._miss).inc()

    def answered(self, recommendation: Recommendation) -> None:
        """Counts the tier of answers to somebody; items similar to an item have none."""
        query = recommendation.query
        if query.user_id is None and not query.session:
            return
        self._tier(recommendation.tier).inc()
        if query.feature_age_s is not None:
            self._feature_age.observe(query.feature_age_s)

    def in_service(self, bundle: str, version: str) -> None:
        """The bundle that answers from now on; call it at every swap."""
        self._bundle.clear()
        self._bundle.labels(bundle, version).set(1)

    def in_flight(self) -> AbstractContextManager[object]:
        """Counts an exchange for as long as it lasts."""
        return self._in_flight.track_inprogress()

    def online_store(self, up: bool, materialized_at: float | None) -> None:
        """What the last look at Redis found; what was materialised stays known while it is down."""
        self._store_up.set(up)
        if materialized_at is not None:
            self._materialized.set(materialized_at)

    def exposition(self) -> bytes:
        """The registry in Prometheus's text format (`CONTENT_TYPE`)."""
        return prometheus_client.generate_latest(self.registry)
