"""Are the online features there, and how old are they."""

from charts.dashboards.grafana import Dashboard, Panel, Query, Row
from charts.dashboards.promql import JOB, NAMESPACE, or_zero, quantile, rate, series

RUNS = rate("marquee_stage_seconds_count", "stage", 'stage="features"')

FEATURES = Dashboard(
    uid="marquee-features",
    title="Marquee / Features",
    description="The online store, its age and its reads.",
    variables=(NAMESPACE, JOB),
    rows=(
        Row(
            "Store",
            (
                Panel(
                    "Online store",
                    "1 where Redis answered the last look at it (every 30 s), 0 where it did not.",
                    "short",
                    (Query(f"min by (instance) ({series('marquee_online_store_up')})", "{{instance}}"),),
                    kind="stat",
                ),
                Panel(
                    "Since the last materialisation",
                    "Age of the offline data online. The alert is at 3 hours; the schedule is hourly.",
                    "s",
                    (
                        Query(
                            f"time() - max by (job) ({series('marquee_materialized_timestamp_seconds')})",
                            "{{job}}",
                        ),
                    ),
                    kind="stat",
                    red_above=10_800,
                ),
                Panel(
                    "Reads that failed",
                    "Share of requests answered with the schema's defaults because the user's row could "
                    "not be "
                    "read in time.",
                    "percentunit",
                    (
                        Query(
                            or_zero(rate("marquee_degraded_total", "stage", 'stage="features"'), RUNS)
                            + f" / {RUNS}",
                            "{{stage}}",
                        ),
                    ),
                    red_above=0.05,
                ),
            ),
        ),
        Row(
            "Age and time",
            (
                Panel(
                    "Age of users' features",
                    "Age of the user's newest event when answering. With streaming minutes; it grows "
                    "with the "
                    "clock where events stopped coming.",
                    "s",
                    tuple(
                        Query(quantile(q, "marquee_feature_age_seconds"), f"p{q * 100:g}") for q in (0.5, 0.9)
                    ),
                    width=12,
                ),
                Panel(
                    "Time of a read",
                    "The features stage: one read of Redis and decoding. Its budget is 50 ms.",
                    "s",
                    tuple(
                        Query(
                            quantile(q, "marquee_stage_seconds", matchers='stage="features"'), f"p{q * 100:g}"
                        )
                        for q in (0.5, 0.99)
                    ),
                    width=12,
                    red_above=0.05,
                ),
            ),
        ),
    ),
)
