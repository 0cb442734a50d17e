"""`python -m charts.dashboards [--check]`: writes the dashboards' JSON, or names what is out of date."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from charts.dashboards.features import FEATURES
from charts.dashboards.grafana import Dashboard, document
from charts.dashboards.pipeline import PIPELINE
from charts.dashboards.quality import QUALITY
from charts.dashboards.ray import RAY
from charts.dashboards.rollouts import ROLLOUTS
from charts.dashboards.service import SERVICE

DASHBOARDS = (SERVICE, PIPELINE, QUALITY, FEATURES, ROLLOUTS, RAY)

FOLDER = Path(__file__).parents[1] / "marquee" / "files" / "dashboards"
"""Where the chart picks them up."""


def rendered(dashboard: Dashboard) -> str:
    return json.dumps(document(dashboard), indent=2, sort_keys=True) + "\n"


def out_of_date(folder: Path = FOLDER) -> list[str]:
    """Names of files that are not what the description gives, missing ones and strangers included."""
    wanted = {f"{dashboard.uid}.json": rendered(dashboard) for dashboard in DASHBOARDS}
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        for name in (stale := out_of_date()):
            print(f"{name} is out of date: python -m charts.dashboards")
        return 1 if stale else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for dashboard in DASHBOARDS:
        (FOLDER / f"{dashboard.uid}.json").write_text(rendered(dashboard), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
