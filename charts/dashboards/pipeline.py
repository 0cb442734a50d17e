"""Where a request's time and its candidates go, stage by stage."""

from charts.dashboards.grafana import Dashboard, Panel, Query, Row
from charts.dashboards.promql import JOB, NAMESPACE, or_zero, quantile, rate, series

SECONDS = "marquee_stage_seconds"
RUNS = f"{SECONDS}_count"
FILTER = 'stage="filter"'
OF_SOURCES = 'stage=~"source:.+"'

PIPELINE = Dashboard(
    uid="marquee-pipeline",
    title="Marquee / Pipeline",
    description="Time, candidates and losses of every stage of the recommendation pipeline.",
    variables=(NAMESPACE, JOB),
    rows=(
        Row(
            "Time",
            (
                Panel(
                    "Where the time goes",
                    "Mean time of a stage, over all requests that ran it. Sources run side by side within "
                    "retrieval.",
                    "s",
                    (
                        Query(
                            f"{rate(f'{SECONDS}_sum', 'stage')} / {rate(RUNS, 'stage')}",
                            "{{stage}}",
                        ),
                    ),
                    width=12,
                ),
                Panel(
                    "p99 of a stage",
                    "A stage whose p99 nears its budget (50 ms features and diversity, 100 ms explainer, "
                    "200 ms sources and ranker) is about to be cut off.",
                    "s",
                    (Query(quantile(0.99, SECONDS, "stage"), "{{stage}}"),),
                    width=12,
                ),
                Panel(
                    "Runs",
                    "Runs of a stage a second. A stage that runs less often than others was declined, or an "
                    "answer came from the cache.",
                    "ops",
                    (Query(rate(RUNS, "stage"), "{{stage}}"),),
                ),
                Panel(
                    "Share of runs lost",
                    "Runs that failed or took too long. Above 5 % for ten minutes an alert fires.",
                    "percentunit",
                    (Query(series("stage:marquee_degraded:ratio_rate5m"), "{{stage}}"),),
                    red_above=0.05,
                ),
                Panel(
                    "Why they were lost",
                    "By class of error. TimeoutError is a stage's own budget, Deadline the request's.",
                    "ops",
                    (Query(rate("marquee_degraded_total", "stage, reason"), "{{stage}} {{reason}}"),),
                ),
            ),
        ),
        Row(
            "Candidates",
            (
                Panel(
                    "Brought by each source",
                    "Candidates a run brings. A source that brings nothing has lost its model or its users.",
                    "short",
                    (
                        Query(
                            f"{rate('marquee_stage_candidates_out_total', 'stage', OF_SOURCES)} / "
                            f"{rate(RUNS, 'stage', OF_SOURCES)}",
                            "{{stage}}",
                        ),
                    ),
                ),
                Panel(
                    "Into each stage",
                    "Candidates a run is given: what ranking and diversity cost grows with it.",
                    "short",
                    (
                        Query(
                            f"{rate('marquee_stage_candidates_in_total', 'stage')} / {rate(RUNS, 'stage')}",
                            "{{stage}}",
                        ),
                    ),
                ),
                Panel(
                    "Filtered out",
                    "Share of candidates that filters take away: seen already, excluded, or not what was "
                    "asked for.",
                    "percentunit",
                    (
                        Query(
                            f"1 - {rate('marquee_stage_candidates_out_total', 'stage', FILTER)} / "
                            f"{rate('marquee_stage_candidates_in_total', 'stage', FILTER)}",
                            "{{stage}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Cache",
            (
                Panel(
                    "Hit ratio",
                    "Share of answers that were computed before. It falls when users' rows change, and "
                    "to zero "
                    "right after a swap of bundles.",
                    "percentunit",
                    (
                        Query(
                            or_zero(
                                rate("marquee_cache_lookups_total", "job", 'result="hit"'),
                                rate("marquee_cache_lookups_total", "job"),
                            )
                            + f" / {rate('marquee_cache_lookups_total', 'job')}",
                            "{{job}}",
                        ),
                    ),
                    width=12,
                ),
                Panel(
                    "Lookups",
                    "Looks into the cache a second, by their result.",
                    "ops",
                    (Query(rate("marquee_cache_lookups_total", "result"), "{{result}}"),),
                    width=12,
                ),
            ),
        ),
    ),
)
