"""What people met again, what they rejected, what was delivered several times, and very long histories: from
tables to figures and answers."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from features import rows as rows_module
from tests.faults.anybody import DAY, START, Journey, Row, journey, write
from training.data.manifest import DataError


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def travelled(root: Path, rows: Iterable[Row], **settings: Any) -> Journey:
    folder = root / "mine"
    folder.mkdir()
    write(folder / "interactions.csv", rows)
    return journey(folder, root / "home", **settings)


def events(user: int, items: Iterable[str], value: float = 1) -> list[Row]:
    return [
        {"user_id": f"u{user}", "item_id": item, "value": value, "timestamp": START + DAY * at + user}
        for at, item in enumerate(items)
    ]


def tastes(users: int = 60, each: int = 10) -> list[list[str]]:
    """Items of the kind that each user likes: even ones like kind a of two, 25 items each."""
    chance = random.Random(1)
    return [chance.sample([f"{'ab'[user % 2]}{i}" for i in range(25)], each) for user in range(users)]


def test_what_is_rejected_attracts_nothing_of_its_kind(tmp_path: Path) -> None:
    """Everybody rejects as many items of one kind as they like of the other, so that by popularity half of
    what is recommended would be of the rejected kind."""
    rows: list[Row] = []
    for user, liked in enumerate(tastes()):
        rejected = [("b" if item[0] == "a" else "a") + item[1:] for item in liked]
        rows += events(user, rejected, -1) + events(user, liked)
    found = travelled(tmp_path, rows)
    assert found.engine.feedback.disliked == 0
    shown = [(int(user[1:]), item) for user, answer in found.answers.items() for item in answer["items"]]
    assert sum(item["id"][0] != "ab"[user % 2] for user, item in shown) / len(shown) < 0.1
    anchors = [(user, reason["anchor"]) for user, item in shown for reason in item["reasons"]]
    named = [(user, anchor["id"]) for user, anchor in anchors if anchor is not None]
    assert named
    assert all(item[0] == "ab"[user % 2] for user, item in named)


def again_and_again() -> list[Row]:
    """Everybody goes round their four items, four times."""
    return [row for user, liked in enumerate(tastes()) for row in events(user, liked[:4] * 4)]


def test_who_meets_the_same_again_is_recommended_it_again(tmp_path: Path) -> None:
    found = travelled(tmp_path, again_and_again())
    assert found.engine.feedback.seen == "allow"
    assert (len(found.cases), found.cases.left_out) == (60, 0)
    assert found.figures.values["recall@10"] > 0.5
    met = {user: set(liked[:4]) for user, liked in enumerate(tastes())}
    shown = {int(user[1:]): {item["id"] for item in each["items"]} for user, each in found.answers.items()}
    assert sum(len(met[user] & shown[user]) for user in met) > 2 * len(met)


def test_where_all_is_met_again_and_excluded_there_is_nothing_to_judge_by(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"all 60 held-out events .* train with --seen allow"):
        travelled(tmp_path, again_and_again(), seen="exclude")


def test_an_event_delivered_three_times_is_one_and_can_be_predicted(tmp_path: Path) -> None:
    rows = [row for user, liked in enumerate(tastes()) for row in events(user, liked) for _ in range(3)]
    found = travelled(tmp_path, rows)
    assert found.engine.feedback.seen == "exclude"
    assert (found.tables.facts.duplicates, found.cases.left_out) == (2 * 60 * 10, 0)
    assert found.figures.values["recall@10"] > 0.1


def test_one_pair_again_and_again_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="training needs") as refused:
        travelled(tmp_path, events(0, ["x"] * 150))
    assert len(str(refused.value).splitlines()) == 1


def test_nothing_met_comes_back_however_long_the_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "HISTORY_LENGTH", 4)
    liked = tastes(each=15)
    found = travelled(tmp_path, [row for user, each in enumerate(liked) for row in events(user, each)])
    for user, answer in found.answers.items():
        assert not {item["id"] for item in answer["items"]} & {*liked[int(user[1:])]}
        assert len(answer["items"]) == 10
