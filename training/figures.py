"""What was measured of recommenders, for people and for a manifest.

Does not belong here: measuring it (`evaluate`).
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Table

from training.evaluate import CUTOFF, RETRIEVED, Row

SHOWN = (
    *(f"{name}@{CUTOFF}" for name in ("ndcg", "recall", "mrr")),
    f"recall@{RETRIEVED}",
    *("diversity", "novelty", "serendipity", "miscalibration", "coverage", "gini"),
)
"""Measures in tables for people; all are in the manifest. With one held-out event a user, hit rate and
precision say what recall does, and MAP what MRR does."""


def as_metrics(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Recommender → measure → value, the ends of intervals and the parts of the cases among them: what a
    bundle's manifest records."""
    found = {row.name: _recorded(row) for row in rows}
    for row in rows:
        for part, of in row.segments.items():
            found[row.name] |= {f"{name}, {part}": value for name, value in _recorded(of).items()}
    return found


def _recorded(row: Row) -> dict[str, float]:
    return {
        **row.values,
        **{f"{name} low": low for name, (low, _) in row.intervals.items()},
        **{f"{name} high": high for name, (_, high) in row.intervals.items()},
    }


def render(rows: Sequence[Row], title: str) -> Table:
    """For people: a column for each recommender, 95 % intervals beside what has one."""
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE)
    table.add_column("")
    for row in rows:
        table.add_column(row.name, justify="right")
    for measure in _shown(rows):
        table.add_row(measure, *(_cell(row, measure) for row in rows))
    for part in rows[0].segments if rows else ():
        table.add_row(f"{SHOWN[0]}, {part}", *(_cell(row.segments[part], SHOWN[0]) for row in rows))
    return table


def markdown(rows: Sequence[Row]) -> str:
    """For a page: a line for each recommender, without intervals."""
    measures = _shown(rows)
    lines = [f"| | {' | '.join(measures)} |", "|---|" + "---:|" * len(measures)]
    lines += [f"| {row.name} | {' | '.join(_figure(row, m) for m in measures)} |" for row in rows]
    return "\n".join(lines)


def _shown(rows: Sequence[Row]) -> list[str]:
    """Those of `SHOWN` that somebody has."""
    return [measure for measure in SHOWN if any(measure in row.values for row in rows)]


def _figure(row: Row, measure: str) -> str:
    return f"{row.values[measure]:.4f}" if measure in row.values else ""


def _cell(row: Row, measure: str) -> str:
    if measure not in row.intervals:
        return _figure(row, measure)
    low, high = row.intervals[measure]
    return f"{row.values[measure]:.4f} [dim]{low:.3f}-{high:.3f}[/dim]"
