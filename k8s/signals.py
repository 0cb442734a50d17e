"""How the bundles in traffic do, from Prometheus. The local server's own metrics: `k8s.scrape`.

Does not belong here: what is too much (`k8s.guardrails`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Protocol

import httpx

from k8s import web
from k8s.errors import Unavailable
from k8s.guardrails import BundleSignals, ShadowSignals, Signals

QUERY_S = 10.0
"""s for one query; they read a few series over some minutes, which takes milliseconds."""


class SignalSource(Protocol):
    def read(self, production: str, candidate: str, window_s: float) -> Signals:
        """The signals of two bundles, named by version, over the last `window_s`.

        Raises:
            Unavailable: nobody could be asked. What is merely unknown is None or 0 instead.
        """
        ...


class PrometheusSource:
    """Reads over Prometheus's HTTP API."""

    def __init__(self, url: str, matchers: str = "", transport: httpx.BaseTransport | None = None) -> None:
        """
        Args:
            url: of the server, e.g. `http://prometheus.monitoring:9090`; may have a path.
            matchers: more label matchers for every series, e.g. `namespace="prod"`.
        """
        self._url = url.rstrip("/")
        self._matchers = f",{matchers}" if matchers else ""
        self._transport = transport

    def read(self, production: str, candidate: str, window_s: float) -> Signals:
        pattern = "|".join(re.escape(version) for version in (production, candidate))
        selector = f"bundle=~{_quoted(pattern)}{self._matchers}"
        over = f"[{max(1, round(window_s))}s]"

        def grew(
            metric: str, labels: str = "bundle", only: str = selector
        ) -> Mapping[tuple[str, ...], float]:
            query = f"sum by ({labels}) (increase({metric}{{{only}}}{over}))"
            return self._query(query, *labels.replace(" ", "").split(","))

        def average(metric: str) -> Mapping[tuple[str, ...], float]:
            return self._query(f"avg by (bundle) ({metric}{{{selector}}})", "bundle")

        requests = grew("marquee_bundle_requests_total", "bundle, outcome")
        degraded, empty = grew("marquee_bundle_degraded_total"), grew("marquee_bundle_empty_total")
        p99 = self._query(
            "histogram_quantile(0.99, sum by (bundle, le) "
            f"(rate(marquee_bundle_seconds_bucket{{{selector}}}{over})))",
            "bundle",
        )
        coverage, psi = average("marquee_bundle_coverage_ratio"), average("marquee_bundle_score_psi")

        def bundle(version: str) -> BundleSignals:
            ok, errors = requests.get((version, "ok"), 0.0), requests.get((version, "error"), 0.0)
            key = (version,)
            return BundleSignals(
                requests=ok + errors,
                errors=errors,
                degraded=degraded.get(key, 0.0),
                empty=empty.get(key, 0.0),
                p99_s=p99.get(key),
                coverage=coverage.get(key),
                psi=psi.get(key),
            )

        copies = grew("marquee_shadow_requests_total", "bundle, outcome")
        overlap = self._query(
            f"sum by (bundle) (increase(marquee_shadow_overlap_ratio_sum{{{selector}}}{over})) / "
            f"sum by (bundle) (increase(marquee_shadow_overlap_ratio_count{{{selector}}}{over}))",
            "bundle",
        )
        failed = copies.get((candidate, "error"), 0.0)
        refused = self._query(
            f"sum (increase(marquee_bundle_refused_total{{{self._matchers.lstrip(',')}}}{over}))"
        )
        return Signals(
            production=bundle(production),
            candidate=bundle(candidate),
            shadow=ShadowSignals(
                copies.get((candidate, "ok"), 0.0) + failed, failed, overlap.get((candidate,))
            ),
            refused=refused.get((), 0.0),
        )

    def _query(self, query: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Values of an instant query by those labels; NaN (0/0) is left out."""
        try:
            with web.client(QUERY_S, self._transport) as client:
                response = client.post(f"{self._url}/api/v1/query", data={"query": query})
            answer = response.json()
            if answer["status"] != "success":
                raise Unavailable(f"Prometheus at {self._url} refused a query: {answer.get('error')}")
            found = {
                tuple(sample["metric"].get(label, "") for label in labels): float(sample["value"][1])
                for sample in answer["data"]["result"]
            }
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"Prometheus at {self._url} does not answer: {error}") from None
        except (ValueError, KeyError, TypeError):
            raise Unavailable(f"{self._url} is no Prometheus: it answered something else") from None
        return {key: value for key, value in found.items() if math.isfinite(value)}


def _quoted(text: str) -> str:
    """A PromQL string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
