"""Training and roll-outs: how old the models are, who gets which, and whether a canary does as well."""

from charts.dashboards.grafana import Dashboard, Panel, Query, Row
from charts.dashboards.promql import JOB, NAMESPACE, or_zero, quantile, rate, series

ALL = rate("marquee_bundle_requests_total", "bundle")

ROLLOUTS = Dashboard(
    uid="marquee-rollouts",
    title="Marquee / Training and roll-outs",
    description="Age of the bundles in traffic, their shares, and production against canary.",
    variables=(NAMESPACE, JOB),
    rows=(
        Row(
            "Bundles",
            (
                Panel(
                    "Age of each bundle",
                    "Since it was trained. The alert is at 50 hours, for a schedule of once a night.",
                    "s",
                    (
                        Query(
                            f"time() - max by (bundle) ({series('marquee_trained_timestamp_seconds')})",
                            "{{bundle}}",
                        ),
                    ),
                    kind="stat",
                    red_above=180_000,
                ),
                Panel(
                    "Traffic",
                    "Share of the users that each bundle answers, by its role.",
                    "percentunit",
                    (
                        Query(
                            f"avg by (bundle, role) ({series('marquee_bundle_weight_ratio')})",
                            "{{bundle}} {{role}}",
                        ),
                    ),
                ),
                Panel(
                    "Refused bundles",
                    "Refusals so far, by reason. What was in service stays in service.",
                    "short",
                    (
                        Query(
                            f"sum by (reason) ({series('marquee_bundle_refused_total')})",
                            "{{reason}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Side by side",
            (
                Panel(
                    "Requests",
                    "Requests a second that each bundle answered.",
                    "reqps",
                    (Query(ALL, "{{bundle}}"),),
                ),
                Panel(
                    "Errors",
                    "Share of a bundle's requests that failed. A roll-out is rolled back by itself on this.",
                    "percentunit",
                    (
                        Query(
                            or_zero(rate("marquee_bundle_requests_total", "bundle", 'outcome="error"'), ALL)
                            + f" / {ALL}",
                            "{{bundle}}",
                        ),
                    ),
                    red_above=0.01,
                ),
                Panel(
                    "p99",
                    "A canary should not be slower than production.",
                    "s",
                    (Query(quantile(0.99, "marquee_bundle_seconds", "bundle"), "{{bundle}}"),),
                ),
            ),
        ),
    ),
)
