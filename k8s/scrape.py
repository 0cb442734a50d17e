"""How the bundles in traffic do, from one server's own /metrics: differences between two scrapes, for those
who have no Prometheus.

Does not belong here: several replicas on several machines; they need a Prometheus.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

from k8s import web
from k8s.errors import Unavailable
from k8s.guardrails import BundleSignals, ShadowSignals, Signals

SCRAPE_S = 5.0
"""s for one scrape; a page of some hundred lines."""

SAMPLES = 256
"""Scrapes kept at most; a window holds four (`k8s.driver.POLLS`)."""

Key = tuple[str, frozenset[tuple[str, str]]]
Page = dict[Key, float]


@dataclass(frozen=True, slots=True)
class Scrape:
    at: float
    page: Page


class ScrapeSource:
    """`k8s.signals.SignalSource` over one server. Blind until it has two scrapes."""

    def __init__(
        self,
        url: str,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = f"{url.rstrip('/')}/metrics"
        self._transport = transport
        self._clock = clock
        self._scrapes: deque[Scrape] = deque(maxlen=SAMPLES)

    def read(self, production: str, candidate: str, window_s: float) -> Signals:
        now = Scrape(self._clock(), self._scrape())
        self._scrapes.append(now)
        while len(self._scrapes) > 1 and self._scrapes[1].at <= now.at - window_s:
            self._scrapes.popleft()
        return signals(self._scrapes[0].page, now.page, production, candidate)

    def _scrape(self) -> Page:
        try:
            with web.client(SCRAPE_S, self._transport) as client:
                response = client.get(self._url)
            response.raise_for_status()
            return parse(response.text)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"no metrics from {self._url}: {error}") from None
        except ValueError as error:
            raise Unavailable(f"{self._url} is not in Prometheus's format: {error}") from None


def parse(text: str) -> Page:
    """Every sample of the text format."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def signals(before: Page, after: Page, production: str, candidate: str) -> Signals:
    """What happened between two scrapes. A counter that fell was started anew: all of it is growth."""

    def growth(name: str, **labels: str) -> float:
        key = (name, frozenset(labels.items()))
        new, old = after.get(key, 0.0), before.get(key, 0.0)
        return new - old if new >= old else new

    def bundle(version: str) -> BundleSignals:
        failed = growth("marquee_bundle_requests_total", bundle=version, outcome="error")
        edges = [
            (float(dict(labels)["le"]), growth(name, **dict(labels)))
            for name, labels in after
            if name == "marquee_bundle_seconds_bucket" and ("bundle", version) in labels
        ]
        return BundleSignals(
            requests=growth("marquee_bundle_requests_total", bundle=version, outcome="ok") + failed,
            errors=failed,
            degraded=growth("marquee_bundle_degraded_total", bundle=version),
            empty=growth("marquee_bundle_empty_total", bundle=version),
            p99_s=quantile(0.99, edges),
            coverage=after.get(("marquee_bundle_coverage_ratio", frozenset({("bundle", version)}))),
            psi=after.get(("marquee_bundle_score_psi", frozenset({("bundle", version)}))),
        )

    failed = growth("marquee_shadow_requests_total", bundle=candidate, outcome="error")
    compared = growth("marquee_shadow_overlap_ratio_count", bundle=candidate)
    overlap = growth("marquee_shadow_overlap_ratio_sum", bundle=candidate)
    return Signals(
        production=bundle(production),
        candidate=bundle(candidate),
        shadow=ShadowSignals(
            growth("marquee_shadow_requests_total", bundle=candidate, outcome="ok") + failed,
            failed,
            overlap / compared if compared > 0 else None,
        ),
        refused=sum(
            growth(name, **dict(labels)) for name, labels in after if name == "marquee_bundle_refused_total"
        ),
    )


def quantile(q: float, edges: Iterable[tuple[float, float]]) -> float | None:
    """The q-quantile from a cumulative histogram, as PromQL's `histogram_quantile` has it: linear inside a
    bucket, the highest finite edge beyond it.

    Args:
        edges: (upper edge, observations up to it), the last edge infinite.

    Returns:
        None where nothing was observed.
    """
    ordered = sorted(edges)
    if not ordered or ordered[-1][1] <= 0:
        return None
    rank = q * ordered[-1][1]
    low_edge, low_count = 0.0, 0.0
    for edge, count in ordered:
        if count >= rank:
            if math.isinf(edge):
                return low_edge
            found = low_edge + (edge - low_edge) * (rank - low_count) / (count - low_count)
            return min(found, edge)  # rounding may carry it an ulp too far
        low_edge, low_count = edge, count
    return low_edge
