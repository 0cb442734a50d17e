import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench import report
from loadtests.bench.result import Entry, Goal, Section, Spread
from tests.loadtests.bench import results

ORDER = ("first", "second", "third")


@given(results.entries)
def test_what_is_written_is_read_back(entry: Entry) -> None:
    text = json.dumps(report.ENTRIES.dump_python([entry], mode="json"), allow_nan=False)
    assert report.ENTRIES.validate_python(json.loads(text)) == [entry]


@pytest.mark.parametrize("lost", ["section", "machine", "date"])
def test_what_lacks_something_is_refused(tmp_path: Path, lost: str) -> None:
    report.merge(tmp_path, results.entry(results.found("first", 1.0)), ORDER)
    held = json.loads((tmp_path / report.DATA).read_text())
    del held["sections"][0][lost]
    (tmp_path / report.DATA).write_text(json.dumps(held))
    with pytest.raises(report.Unreadable):
        report.read(tmp_path)


def test_nothing_was_measured_yet(tmp_path: Path) -> None:
    assert report.read(tmp_path) == {}


def test_a_run_replaces_its_section_and_keeps_the_others_in_their_order(tmp_path: Path) -> None:
    report.write(tmp_path, [results.entry(results.found("gone", 4.0))])
    for name, value in (("third", 3.0), ("first", 1.0), ("third", 33.0)):
        report.merge(tmp_path, results.entry(results.found(name, value)), ORDER)
    held = report.read(tmp_path)
    assert list(held) == ["first", "third"]
    assert held["third"].section.tables[0].rows == ((33.0,),)
    page = (tmp_path / report.PAGE).read_text()
    assert page.index("## First") < page.index("## Third")
    assert "Gone" not in page


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
    with pytest.raises(ValueError, match="JSON"):
        report.merge(tmp_path, results.entry(results.found("second", float("nan"))), ORDER)
    goal = Goal("a measure", Spread((1.0, float("inf"))), "at most", 1.0)
    with pytest.raises(ValueError, match="JSON"):
        report.merge(tmp_path, results.entry(results.found("second", 1.0, goals=(goal,))), ORDER)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 0, "sections": []}', '{"format": 1, "sections": [1]}']
)
def test_another_file_is_refused_and_not_overwritten(tmp_path: Path, text: str) -> None:
    (tmp_path / report.DATA).write_text(text)
    with pytest.raises(report.Unreadable):
        report.merge(tmp_path, results.entry(results.found("first", 1.0)), ORDER)
    assert (tmp_path / report.DATA).read_text() == text


def test_the_data_are_json_that_any_reader_takes(tmp_path: Path) -> None:
    report.merge(tmp_path, results.entry(results.found("first", 1.5)), ORDER)
    [section] = json.loads((tmp_path / report.DATA).read_text())["sections"]
    assert section["section"]["tables"][0]["rows"] == [[1.5]]
