"""Sets that nobody here wrote, from their tables to answers: minutes, and only where they are."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.faults.anybody import journey
from tests.real_data import real_set

USERS = 2_000
"""Of a set that takes minutes to learn whole, the users a test takes."""


def first_users(source: Path, target: Path) -> Path:
    """The same tables with the interactions of the first users alone, and the items that they met."""
    target.mkdir()
    with (source / "interactions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    users = set(list(dict.fromkeys(row["user_id"] for row in rows))[:USERS])
    kept = [row for row in rows if row["user_id"] in users]
    _write(target / "interactions.csv", kept)
    met = {row["item_id"] for row in kept}
    if (source / "items.csv").is_file():
        with (source / "items.csv").open(newline="", encoding="utf-8") as file:
            _write(target / "items.csv", [row for row in csv.DictReader(file) if row["item_id"] in met])
    return target


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["amazon-magazine", "amazon-toys"])
def test_a_real_set_is_learned_from_and_its_users_are_answered_in_person(name: str, tmp_path: Path) -> None:
    """Magazines have users with one to three interactions, toys neither users nor titles."""
    source = real_set(name)
    folder = first_users(source, tmp_path / name) if name == "amazon-toys" else source
    found = journey(folder, tmp_path / "home", people=20)
    for answer in found.answers.values():
        assert answer["tier"] == "personalized"
        assert answer["degraded"] == []
        assert len(answer["items"]) == 10
        assert all(item["reasons"] for item in answer["items"])
