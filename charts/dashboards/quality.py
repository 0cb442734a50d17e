"""What the recommendations are like, bundle by bundle: who gets them, how varied, how different."""

from charts.dashboards.grafana import Dashboard, Panel, Query, Row
from charts.dashboards.promql import JOB, NAMESPACE, or_zero, quantile, rate, series

ANSWERED = rate("marquee_bundle_requests_total", "bundle", 'outcome="ok"')


def _mean(name: str) -> tuple[Query, ...]:
    return (Query(f"avg by (bundle) ({series(name)})", "{{bundle}}"),)


def _share(name: str) -> tuple[Query, ...]:
    return (Query(f"{or_zero(rate(name, 'bundle'), ANSWERED)} / {ANSWERED}", "{{bundle}}"),)


QUALITY = Dashboard(
    uid="marquee-quality",
    title="Marquee / Recommendation quality",
    description="Coverage, diversity, drift and emptiness of what each bundle recommends.",
    variables=(NAMESPACE, JOB),
    rows=(
        Row(
            "What is recommended",
            (
                Panel(
                    "Coverage",
                    "Share of the catalogue in each bundle's last answers. A fall means that everybody "
                    "gets the "
                    "same few items.",
                    "percentunit",
                    _mean("marquee_bundle_coverage_ratio"),
                ),
                Panel(
                    "Diversity",
                    "Mean distance between the items of one answer. A fall means answers full of near "
                    "copies.",
                    "percentunit",
                    _mean("marquee_bundle_diversity_ratio"),
                ),
                Panel(
                    "Score drift",
                    "Population stability index of a bundle's scores against production's: below 0.1 "
                    "alike, above "
                    "0.25 another distribution.",
                    "short",
                    _mean("marquee_bundle_score_psi"),
                    red_above=0.25,
                ),
            ),
        ),
        Row(
            "What is missing",
            (
                Panel(
                    "Empty answers",
                    "Share of a bundle's answers without any item.",
                    "percentunit",
                    _share("marquee_bundle_empty_total"),
                    red_above=0.01,
                ),
                Panel(
                    "Degraded answers",
                    "Share of a bundle's answers that lost a stage.",
                    "percentunit",
                    _share("marquee_bundle_degraded_total"),
                    red_above=0.05,
                ),
                Panel(
                    "Popular answers",
                    "Share of answers that are not personal at all.",
                    "percentunit",
                    (
                        Query(
                            or_zero(
                                rate("marquee_responses_total", "job", 'tier="popular"'),
                                rate("marquee_responses_total", "job"),
                            )
                            + f" / {rate('marquee_responses_total', 'job')}",
                            "{{job}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Shadow",
            (
                Panel(
                    "Overlap with production",
                    "Share of the items that a shadow bundle and production have in common, per answer.",
                    "percentunit",
                    (Query(quantile(0.5, "marquee_shadow_overlap_ratio", "bundle"), "{{bundle}} median"),),
                    width=12,
                ),
                Panel(
                    "Shadow requests",
                    "Copies asked of shadow bundles; dropped ones found the shadow's queue full.",
                    "reqps",
                    (
                        Query(
                            rate("marquee_shadow_requests_total", "bundle, outcome"), "{{bundle}} {{outcome}}"
                        ),
                    ),
                    width=12,
                ),
            ),
        ),
    ),
)
