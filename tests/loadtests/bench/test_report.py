import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench import report
from loadtests.bench.codec import Unreadable
from loadtests.bench.result import Plot, Section
from tests.loadtests.bench import results

ORDER = ("first", "second", "third")


def test_nothing_was_measured_yet(tmp_path: Path) -> None:
    assert report.read(tmp_path) == {}


def test_a_run_replaces_its_section_and_keeps_the_others_in_their_order(tmp_path: Path) -> None:
    for name, value in (("third", 3.0), ("other", 4.0), ("first", 1.0), ("third", 33.0)):
        report.merge(tmp_path, results.entry(results.found(name, value)), ORDER)
    held = report.read(tmp_path)
    assert list(held) == ["first", "third", "other"]
    assert held["third"].section.tables[0].rows == ((33.0,),)
    page = (tmp_path / report.PAGE).read_text()
    assert page.index("## First") < page.index("## Third") < page.index("## Other")


@given(st.permutations(ORDER))
def test_the_page_does_not_depend_on_the_order_of_the_runs(
    tmp_path_factory: pytest.TempPathFactory, order: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("out")
    for name in order:
        report.merge(folder, results.entry(results.found(name, 1.0)), ORDER)
    assert list(report.read(folder)) == list(ORDER)


def test_a_skipped_section_replaces_no_measured_one(tmp_path: Path) -> None:
    skipped = results.entry(Section("first", "First", "", skipped="no GPU here"))
    report.merge(tmp_path, skipped, ORDER)
    assert "no GPU here" in (tmp_path / report.PAGE).read_text()
    measured = results.entry(results.found("first", 1.0))
    report.merge(tmp_path, measured, ORDER)
    report.merge(tmp_path, skipped, ORDER)
    assert report.read(tmp_path) == {"first": measured}


def test_a_figure_that_is_none_leaves_everything_as_it_was(tmp_path: Path) -> None:
    report.merge(tmp_path, results.entry(results.found("first", 1.0)), ORDER)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="nan"):
        report.merge(tmp_path, results.entry(results.found("second", float("nan"))), ORDER)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 0, "sections": []}', '{"format": 1, "sections": [1]}']
)
def test_another_file_is_refused_and_not_overwritten(tmp_path: Path, text: str) -> None:
    (tmp_path / report.DATA).write_text(text)
    with pytest.raises(Unreadable):
        report.merge(tmp_path, results.entry(results.found("first", 1.0)), ORDER)
    assert (tmp_path / report.DATA).read_text() == text


def test_plots_are_drawn_named_by_the_page_and_removed_when_they_are_no_more(tmp_path: Path) -> None:
    plot = Plot("growth", "Growth", "n", "ms", {"ours": ((1.0, 2.0), (10.0, 20.0))})
    report.merge(tmp_path, results.entry(results.found("first", 1.0, plots=(plot,))), ORDER)
    [drawn] = (tmp_path / report.PLOTS).iterdir()
    assert ElementTree.parse(drawn).getroot().tag.endswith("svg")
    assert f"({report.PLOTS}/{drawn.name})" in (tmp_path / report.PAGE).read_text()
    before = drawn.read_bytes()
    report.write(tmp_path, list(report.read(tmp_path).values()))
    assert drawn.read_bytes() == before
    report.merge(tmp_path, results.entry(results.found("first", 1.0)), ORDER)
    assert list((tmp_path / report.PLOTS).iterdir()) == []


def test_the_data_are_json_that_any_reader_takes(tmp_path: Path) -> None:
    report.merge(tmp_path, results.entry(results.found("first", 1.5)), ORDER)
    [section] = json.loads((tmp_path / report.DATA).read_text())["sections"]
    assert section["section"]["tables"][0]["rows"] == [[1.5]]
