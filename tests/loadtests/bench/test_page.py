import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from loadtests.bench.page import figure, page, table
from loadtests.bench.result import Cell, Goal, Section, Spread
from tests.loadtests.bench import results


def written(section: Section, *, quick: bool = False) -> str:
    return page([results.entry(section, quick=quick)])


@given(st.floats(-1e14, 1e14))
def test_a_figure_keeps_three_digits(value: float) -> None:
    assume(abs(value) >= 1e-3)
    assert float(figure(value).replace(",", "")) == pytest.approx(value, rel=6e-3)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1234567.8, "1,234,568"), (12.345, "12.3"), (0.00123, "0.00123"), (1.5e-7, "1.50e-07")],
)
def test_figures_read_as_people_write_them(value: float, text: str) -> None:
    assert figure(value) == text


@given(st.lists(st.tuples(results.cell, results.cell), max_size=5))
def test_a_table_has_a_cell_for_every_column_whatever_is_in_it(rows: list[tuple[Cell, ...]]) -> None:
    lines = table(("one", "two"), rows).split("\n")[:-1]
    assert len(lines) == 2 + len(rows)
    for line in lines:
        assert len(re.findall(r"(?<!\\)\|", line)) == 3


def test_a_spread_says_its_median_and_its_ends() -> None:
    assert "2 [1 to 4]" in table(("it",), [(Spread((4.0, 1.0, 2.0)),)])
    assert "| 2 |" in table(("it",), [(Spread((2.0,)),)])


def test_columns_of_figures_stand_right() -> None:
    assert "| --- | ---: |" in table(("a", "b"), [("x", 1.0), ("y", Spread((2.0,)))])


@pytest.mark.parametrize(("value", "word"), [(1.0, "reached"), (2.5, "not reached")])
def test_a_goal_says_whether_it_was_reached_and_what_limits_it(value: float, word: str) -> None:
    goal = Goal("a ratio", Spread((value,)), "at most", 2.0, "the memory")
    assert f"| a ratio | {figure(value)} | ≤ 2 | {word} | the memory |" in written(
        results.found("suite", 1.0, goals=(goal,))
    )


def test_every_section_says_when_on_what_and_how() -> None:
    text = written(results.found("suite", 1.0))
    for part in (
        "2024-01-01T00:00+00:00",
        "`python -m loadtests.bench`",
        "a cpu, 2 cores, 8 GiB",
    ):
        assert part in text
    assert "Quick" not in text
    assert "Quick" in written(results.found("suite", 1.0), quick=True)


def test_a_skipped_section_says_why() -> None:
    assert "Skipped: no CUDA" in written(Section("gpu", "GPU", "", skipped="no CUDA"))
