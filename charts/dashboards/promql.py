"""PromQL that several dashboards say: filters, ratios, quantiles."""

from __future__ import annotations

from charts.dashboards.grafana import Variable

OURS = 'namespace=~"$namespace", job=~"$job"'
"""Series of Marquee's own `/metrics` and exporter."""

RAYS = 'namespace=~"$namespace"'
"""Series of Ray's metrics port, which is another job."""

RATE = "[$__rate_interval]"

NAMESPACE = Variable("namespace", "Namespace", "label_values(marquee_replica_in_flight, namespace)")
JOB = Variable("job", "Job", 'label_values(marquee_replica_in_flight{namespace=~"$namespace"}, job)')
RAY_NAMESPACE = Variable("namespace", "Namespace", "label_values(ray_serve_deployment_status, namespace)")

ANSWERS = r'endpoint=~"/v1/(recommendations|rank|items/.+)"'
"""The endpoints that objectives are about: not probes, not administration."""


def series(name: str, matchers: str = "", of: str = OURS) -> str:
    return f"{name}{{{of}{', ' + matchers if matchers else ''}}}"


def rate(name: str, by: str, matchers: str = "") -> str:
    """Per second, summed by these labels."""
    return f"sum by ({by}) (rate({series(name, matchers)}{RATE}))"


def quantile(q: float, histogram: str, by: str = "", matchers: str = "", of: str = OURS) -> str:
    labels = f"le, {by}" if by else "le"
    buckets = series(f"{histogram}_bucket", matchers, of)
    return f"histogram_quantile({q}, sum by ({labels}) (rate({buckets}{RATE})))"


def or_zero(found: str, where: str) -> str:
    """Zero for what `where` has and `found` lacks: a counter that was never raised has no series."""
    return f"({found} or 0 * {where})"
