"""The dashboards' JSON: what the description gives, whole, and bound to no Grafana in particular."""

from __future__ import annotations

import json
from typing import Any

import pytest

from charts.dashboards.__main__ import DASHBOARDS, FOLDER, main, out_of_date, rendered
from charts.dashboards.grafana import WIDTH, Dashboard, document

documents = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)


def panels(dashboard: Dashboard) -> list[dict[str, Any]]:
    return [panel for panel in document(dashboard)["panels"] if panel["type"] != "row"]


def test_the_files_are_what_the_description_gives() -> None:
    assert out_of_date() == []
    assert main(["--check"]) == 0


def test_a_changed_missing_or_strange_file_is_noticed(tmp_path: Any) -> None:
    for path in FOLDER.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "marquee-ray.json").write_text("{}")
    (tmp_path / "marquee-service.json").unlink()
    (tmp_path / "strange.json").write_text("{}")
    assert out_of_date(tmp_path) == ["marquee-ray.json", "marquee-service.json", "strange.json"]


@documents
def test_every_panel_says_what_it_shows(dashboard: Dashboard) -> None:
    for panel in panels(dashboard):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    titles = [panel["title"] for panel in panels(dashboard)]
    assert len(titles) == len(set(titles))


@documents
def test_panels_neither_overlap_nor_stick_out(dashboard: Dashboard) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in document(dashboard)["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= WIDTH
        assert not taken & cells, panel["title"]
        taken |= cells


@documents
def test_nothing_belongs_to_one_grafana(dashboard: Dashboard) -> None:
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            assert "id" not in value
            if "datasource" in value:
                assert value["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    written = json.loads(rendered(dashboard))
    walk(written)
    assert written["templating"]["list"][0]["type"] == "datasource"
    assert "http://" not in rendered(dashboard)


def test_every_dashboard_has_an_address_of_its_own() -> None:
    assert len({dashboard.uid for dashboard in DASHBOARDS}) == len(DASHBOARDS) == 6
    assert all(len(dashboard.uid) <= 40 for dashboard in DASHBOARDS)  # Grafana's limit
