"""Is the service keeping its promise, and if not, where: objectives first, then rate, errors and duration."""

from charts.dashboards.grafana import Dashboard, Panel, Query, Row
from charts.dashboards.promql import ANSWERS, JOB, NAMESPACE, OURS, or_zero, quantile, rate, series

REQUESTS, SECONDS = "marquee_requests_total", "marquee_request_seconds"


def _burn(ratio: str, budget: float) -> tuple[Query, ...]:
    return tuple(
        Query(f"{series(f'{ratio}{window}')} / {budget}", f"{window} {{{{job}}}}")
        for window in ("5m", "1h", "6h", "3d")
    )


SERVICE = Dashboard(
    uid="marquee-service",
    title="Marquee / Service",
    description="Objectives, requests, errors and durations of the HTTP interface.",
    variables=(NAMESPACE, JOB),
    rows=(
        Row(
            "Objectives",
            (
                Panel(
                    "Availability, 3 days",
                    "Share of answers that were not 5xx. The objective is 99.9 %.",
                    "percentunit",
                    (Query(f"1 - {series('job:marquee_errors:ratio_rate3d')}", "{{job}}"),),
                    kind="stat",
                    width=6,
                ),
                Panel(
                    "Answered within 100 ms, 3 days",
                    "Share of good answers that took at most 100 ms. The objective is 99 %.",
                    "percentunit",
                    (Query(f"1 - {series('job:marquee_slow:ratio_rate3d')}", "{{job}}"),),
                    kind="stat",
                    width=6,
                ),
                Panel(
                    "Error budget burn",
                    "Times as fast as the budget of 30 days allows. 1 uses it up exactly; 14.4 uses 2 % "
                    "an hour.",
                    "short",
                    _burn("job:marquee_errors:ratio_rate", 0.001),
                    width=6,
                    red_above=14.4,
                ),
                Panel(
                    "Latency budget burn",
                    "The same for answers slower than 100 ms.",
                    "short",
                    _burn("job:marquee_slow:ratio_rate", 0.01),
                    width=6,
                    red_above=14.4,
                ),
            ),
        ),
        Row(
            "Rate, errors, duration",
            (
                Panel(
                    "Requests",
                    "Requests a second by endpoint, probes included.",
                    "reqps",
                    (Query(rate(REQUESTS, "endpoint"), "{{endpoint}}"),),
                ),
                Panel(
                    "Errors by status",
                    "Answers a second that were not 2xx. 4xx are the client's, 499 left before the answer, "
                    "503 were shed or had nothing in hand.",
                    "reqps",
                    (Query(rate(REQUESTS, "endpoint, status", 'status!~"2.."'), "{{status}} {{endpoint}}"),),
                ),
                Panel(
                    "Share of failed answers",
                    "5xx over all answers, by endpoint.",
                    "percentunit",
                    (
                        Query(
                            or_zero(
                                rate(REQUESTS, "endpoint", f'{ANSWERS}, status=~"5.."'),
                                rate(REQUESTS, "endpoint", ANSWERS),
                            )
                            + f" / {rate(REQUESTS, 'endpoint', ANSWERS)}",
                            "{{endpoint}}",
                        ),
                    ),
                    red_above=0.001,
                ),
                Panel(
                    "Duration of recommendations",
                    "Until the last byte was handed over. p50 is the usual user, p99 the unlucky one.",
                    "s",
                    tuple(
                        Query(
                            quantile(q, SECONDS, matchers='endpoint="/v1/recommendations"'), f"p{q * 100:g}"
                        )
                        for q in (0.5, 0.95, 0.99)
                    ),
                    red_above=0.1,
                ),
                Panel(
                    "p99 by endpoint",
                    "Which endpoint is slow.",
                    "s",
                    (Query(quantile(0.99, SECONDS, "endpoint", ANSWERS), "{{endpoint}}"),),
                ),
                Panel(
                    "In flight",
                    "Requests being answered now, in all replicas of a pod. Near the limit of 64 a replica, "
                    "more are shed with 503.",
                    "short",
                    (
                        Query(
                            f"sum by (pod, instance) ({series('marquee_replica_in_flight')})", "{{instance}}"
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Answers",
            (
                Panel(
                    "Tiers",
                    "How personal the answers are. A rise of popular means that users are not found or that "
                    "personal sources are lost.",
                    "percentunit",
                    (
                        Query(
                            f"{rate('marquee_responses_total', 'tier')} / on () group_left () "
                            f"sum (rate({series('marquee_responses_total')}[$__rate_interval]))",
                            "{{tier}}",
                        ),
                    ),
                ),
                Panel(
                    "Lost stages",
                    "Stages that failed or took too long, a second, with the class of the error. Answers "
                    "go out "
                    "without them.",
                    "ops",
                    (Query(rate("marquee_degraded_total", "stage, reason"), "{{stage}} {{reason}}"),),
                ),
                Panel(
                    "Bundles in service",
                    "Which bundle each pod answers from. Several rows for longer than a roll-out are a "
                    "mismatch.",
                    "short",
                    (
                        Query(
                            f"count by (bundle, version, instance) (marquee_bundle_info{{{OURS}}})",
                            "{{bundle}} {{version}}",
                        ),
                    ),
                    kind="table",
                ),
            ),
        ),
    ),
)
