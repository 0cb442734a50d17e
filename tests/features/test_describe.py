"""The documented table of features is the one the code prints."""

from __future__ import annotations

from pathlib import Path

from features.describe import markdown
from features.schema import HISTORY_LENGTH
from tests.features.worlds import films

PAGE = Path(__file__).parents[2] / "docs" / "features.md"


def test_the_page_holds_every_feature_that_all_data_sets_share() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for row in markdown(films().schema).splitlines():
        if row.startswith("| `") and "column of the" not in row:
            assert row in page
    assert f"{HISTORY_LENGTH:,} events" in page
