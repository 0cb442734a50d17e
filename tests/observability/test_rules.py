"""Recording rules and alerts: valid, tested by Prometheus's own tool, each with a page for who is paged."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "charts/marquee/files/rules").glob("*.yaml"))
CASES = sorted(Path(__file__).with_name("rules").glob("*.yaml"))
RUNBOOKS = ROOT / "docs/runbooks"
HEADINGS = ("## What it means", "## Who is affected", "## How to look", "## What to do")

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)"
)


def rules() -> list[dict[str, Any]]:
    read = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in RULES]
    return [rule for file in read for group in file["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_the_rules_are_valid(path: Path) -> None:
    promtool("check", "rules", path)


@needs_promtool
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_rules_do_what_their_cases_say(path: Path) -> None:
    promtool("test", "rules", path)


def test_every_alert_has_a_case_where_it_fires() -> None:
    said = "".join(path.read_text(encoding="utf-8") for path in CASES)
    for alert in alerts():
        assert f"alertname: {alert['alert']}\n" in said or f'alertname="{alert["alert"]}"' in said, alert[
            "alert"
        ]


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_says_what_whom_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning")
    notes = alert["annotations"]
    assert notes.keys() == {"summary", "description", "runbook_url"}
    assert notes["runbook_url"] == f"docs/runbooks/{alert['alert']}.md"
    page = (ROOT / notes["runbook_url"]).read_text(encoding="utf-8")
    assert page.startswith(f"# {alert['alert']}\n")
    places = [page.find(heading) for heading in HEADINGS]
    assert -1 not in places
    assert places == sorted(places)


def test_every_runbook_has_an_alert() -> None:
    pages = {path.stem for path in RUNBOOKS.glob("*.md")}
    assert pages == {alert["alert"] for alert in alerts()}


def test_names_are_not_used_twice() -> None:
    recorded = [rule["record"] for rule in rules() if "record" in rule]
    assert len(recorded) == len(set(recorded))
    told = [(alert["alert"], tuple(sorted(alert["labels"].items()))) for alert in alerts()]
    assert len(told) == len(set(told))
