"""The PrometheusRule: every rule of the chart's files, but alerts that could only fire for ever; links that
lead somewhere. What the rules do is asked in tests/observability."""

from typing import Any

import pytest
import yaml

from tests.chart.rendering import CHART, REQUIRED, ROOT, Chart

SCHEDULED = {"MarqueeMaterializeOverdue", "MarqueeTrainingOverdue"}
MATERIALIZE, RETRAIN = "--set=materialize.enabled=true", "--set=retrain.enabled=true"


def rendered(chart: Chart, *flags: str) -> list[dict[str, Any]]:
    found = chart.one("PrometheusRule", *REQUIRED, "--set=monitoring.enabled=true", *flags)
    return [rule for group in found["spec"]["groups"] for rule in group["rules"]]


def written() -> list[dict[str, Any]]:
    read = [yaml.safe_load(path.read_text()) for path in sorted(CHART.glob("files/rules/*.yaml"))]
    return [rule for file in read for group in file["groups"] for rule in group["rules"]]


@pytest.mark.parametrize(
    ("flags", "missing"),
    [
        ((), SCHEDULED),
        ((MATERIALIZE,), {"MarqueeTrainingOverdue"}),
        ((RETRAIN,), {"MarqueeMaterializeOverdue"}),
        ((MATERIALIZE, RETRAIN), set[str]()),
        ((MATERIALIZE, RETRAIN, "--set=retrain.schedule="), {"MarqueeTrainingOverdue"}),
    ],
)
def test_nothing_is_overdue_that_is_not_scheduled(
    chart: Chart, flags: tuple[str, ...], missing: set[str]
) -> None:
    wanted = [rule for rule in written() if rule.get("alert") not in missing]
    assert [without_links(rule) for rule in rendered(chart, *flags)] == [
        without_links(rule) for rule in wanted
    ]


def without_links(rule: dict[str, Any]) -> dict[str, Any]:
    notes = {name: said for name, said in rule.get("annotations", {}).items() if name != "runbook_url"}
    return {**rule, "annotations": notes}


@pytest.mark.parametrize(
    ("flags", "before"),
    [
        ((), ""),
        (("--set=monitoring.rules.runbookUrlPrefix=https://wiki.example.com/x/",), "https://wiki.example.com/x/"),
    ],
)  # fmt: skip
def test_an_alert_leads_to_its_runbook(chart: Chart, flags: tuple[str, ...], before: str) -> None:
    alerts = [rule for rule in rendered(chart, MATERIALIZE, RETRAIN, *flags) if "alert" in rule]
    assert {alert["alert"] for alert in alerts} >= SCHEDULED
    for alert in alerts:
        link = alert["annotations"]["runbook_url"]
        assert link == f"{before}docs/runbooks/{alert['alert']}.md"
        assert (ROOT / link.removeprefix(before)).is_file()
