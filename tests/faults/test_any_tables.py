"""Any subset of the optional tables and columns, and tables of odd sizes: everything works to the last
answer, or ends with an error that a command prints as one line."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings

from features.schema import SchemaError
from tests.faults.anybody import Journey, Shape, journey, movielens, shapes
from training.data.manifest import DataError


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def travelled(shape: Shape) -> Journey | str:
    """Where the way led, or what a command would have said; any other error is a failure."""
    with tempfile.TemporaryDirectory() as root:
        try:
            return journey(shape.write(Path(root) / "mine"), Path(root) / "home")
        except (DataError, SchemaError) as error:
            return str(error)


def check(shape: Shape, found: Journey) -> None:
    feedback = found.engine.feedback
    seen: dict[str, set[str]] = {}
    disliked: dict[str, set[str]] = {}
    known: set[str] = set()  # who liked anything
    for event in sorted(found.tables.interactions.to_pylist(), key=lambda event: event["timestamp"]):
        seen.setdefault(event["user_id"], set()).add(event["item_id"])
        if feedback.disliked is not None and event["value"] <= feedback.disliked:
            disliked.setdefault(event["user_id"], set()).add(event["item_id"])
        else:
            disliked.setdefault(event["user_id"], set()).discard(event["item_id"])
            known.add(event["user_id"])
    for user, answer in found.answers.items():
        shown = [item["id"] for item in answer["items"]]
        left = set(found.engine.catalogue.ids) - found.delisted
        assert answer["degraded"] == []
        assert not set(shown) & found.delisted
        hidden = seen[user] if feedback.seen == "exclude" else disliked[user]
        assert not set(shown) & hidden
        assert len(shown) == len(set(shown)) == min(10, len(left - hidden))
        assert answer["tier"] == ("personalized" if shown and user in known else "popular")
        for item in answer["items"]:
            for reason in item["reasons"]:
                if (anchor := reason["anchor"]) is not None:
                    assert anchor["id"] in seen[user] - disliked[user]
                    assert anchor["title"] in reason["sentence"]
    unknown, ranked, similar = found.others
    assert unknown["tier"] == "popular"
    assert len(ranked["items"]) == 1
    assert not {item["id"] for item in similar["items"]} & found.delisted


def test_movielens_without_users_is_answered_from(tmp_path: Path) -> None:
    found = journey(movielens(tmp_path / "ml"), tmp_path / "home")
    assert len(found.answers) == 40
    assert {answer["tier"] for answer in found.answers.values()} == {"personalized"}
    titles = [item["properties"]["title"] for item in found.answers["0"]["items"]]
    assert all(title.startswith("Film ") for title in titles)


@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(shapes)
@example(Shape(time="none"))  # interactions alone, as the README says
@example(Shape(users="all"))  # no items
@example(Shape(users="ids", items="ids", value="zeros", time="same"))
@example(Shape(items="all", value="ratings", unlisted=0.2))
@example(Shape(users_n=120, each=(4, 4)))  # nobody has more than two training events
@example(Shape(users_n=120, each=(3, 3)))  # nobody has more than one
def test_any_tables_are_answered_from_or_refused_in_one_line(shape: Shape) -> None:
    found = travelled(shape)
    if isinstance(found, Journey):
        check(shape, found)
    else:
        assert not shape.enough, found
        assert len(found.splitlines()) == 1
