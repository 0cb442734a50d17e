"""Prints a schema as a Markdown table: `python -m features.describe [MARQUEE_HOME/features/schema.json]`."""

from __future__ import annotations

import sys
from pathlib import Path

from features.schema import Feature, FeatureSchema

HEADER = ("| feature | kind | unit | stale after | model inputs | what |", "|---|---|---|---|---|---|")


def markdown(schema: FeatureSchema) -> str:
    """One table for each group of features."""
    groups = (("User", schema.user), ("Item", schema.item), ("Context", schema.context))
    tables = ("\n".join((f"**{name}**", "", *HEADER, *map(_row, features))) for name, features in groups)
    return "\n\n".join(tables)


def _row(feature: Feature) -> str:
    stale = f"{feature.ttl_s / 86_400:g} days" if feature.ttl_s else "never"
    entering = f"{len(feature.inputs)}{' (log)' if feature.log else ''}" if feature.inputs else "none"
    cells = (f"`{feature.name}`", feature.kind, feature.unit, stale, entering, feature.description)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else ".marquee/features/schema.json")
    print(markdown(FeatureSchema.from_json(path.read_text(encoding="utf-8"))))
