"""The worked example of docs/data.md, taken from the page itself."""

from __future__ import annotations

import re
from pathlib import Path

from training.data.ingest import Ingest
from training.data.own import read_own

PAGE = Path(__file__).parents[3] / "docs" / "data.md"


def test_the_worked_example_reads(tmp_path: Path) -> None:
    examples = re.findall(r"```csv\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for name, example in zip(("interactions", "items", "users"), examples, strict=True):
        (tmp_path / f"{name}.csv").write_text(example)
    tables = read_own(tmp_path, Ingest(0.0))
    assert tables.interactions["timestamp"].to_pylist() == [1704067200, 1704187800, 1704240000]
    assert tables.items.to_pylist()[0] == {
        "item_id": "tent",
        "title": "Two-person tent",
        "price": 189.0,
        "activity": ["hiking", "camping"],
    }
    assert tables.users.to_pylist() == [
        {"user_id": "ann", "country": "NO"},
        {"user_id": "bob", "country": None},
    ]
