"""The words, and the rules they are chosen by."""

from __future__ import annotations

import numpy as np
import pytest

from serving.explain.reasons import (
    ANCHOR_FEATURE,
    CHOSEN,
    FAMILY,
    LOW,
    PLAIN,
    RATED,
    outer,
    raising,
    rated_highly,
    strongest_anchors,
)
from serving.types import History
from tests.serving.doubles import history_of
from training.models.linear import LinearItemModel
from training.models.ranking_features import NAMES


def valued(*values: float) -> History:
    n = len(values)
    return History(np.arange(n, dtype=np.int32), np.array(values, np.float32), np.arange(n, dtype=np.float64))


def test_the_words() -> None:
    said = [
        words[f].format(anchor="The Fugitive", item="Twister") for f in CHOSEN for words in (CHOSEN, RATED)
    ]
    assert [*said, *PLAIN.values()] == [
        "People who chose The Fugitive, as you did, also chose Twister.",
        "People who chose The Fugitive, which you rated highly, also chose Twister.",
        "After The Fugitive, which you chose, people often go on to Twister.",
        "After The Fugitive, which you rated highly, people often go on to Twister.",
        "It is close to what you have been choosing lately.",
        "Many people have chosen it.",
        "People who chose it rated it highly.",
        "It is new here.",
    ]


def test_every_family_has_its_words_and_every_word_its_feature() -> None:
    assert set(FAMILY) | LOW <= set(NAMES)
    assert set(FAMILY.values()) == {*PLAIN, *CHOSEN}
    assert set(CHOSEN) == set(RATED) == set(ANCHOR_FEATURE)
    assert all(FAMILY[feature] == family for family, feature in ANCHOR_FEATURE.items())


def test_a_family_is_as_strong_as_its_features_together() -> None:
    names = ("ease", "ease_long", "two_tower", "age", "idle")
    assert raising(names, np.array([-1.0, 2.0, 1.5, 0.0, 9.0], np.float32)) == ("taste", "together")
    assert raising(names, np.array([-1.0, 1.0, -0.5, -2.0, 9.0], np.float32)) == ()


@pytest.mark.parametrize(
    ("values", "high"),
    [((1, 5, 3), [1, 2]), ((4, 4, 4), []), ((2,), []), ((0.1, 0.1, 0.1), []), ((3, 1), [0])],
)
def test_highly_rated_is_at_least_the_mean_of_values_that_differ(
    values: tuple[float, ...], high: list[int]
) -> None:
    past = valued(*values)
    assert np.flatnonzero(rated_highly(past)).tolist() == high


def test_the_strongest_anchor_counts_recency() -> None:
    weights = np.zeros((4, 4), np.float32)
    weights[0, 3], weights[1, 3], weights[2, 3] = 1.0, 0.6, -1.0
    model = LinearItemModel(weights, half_life=1.0, history=10)
    items = np.array([3, 0], np.int32)

    def found(*past: int) -> tuple[list[int], list[float]]:
        anchors = strongest_anchors(model, history_of(past), items, np.ones(len(past), bool))
        return anchors.position.tolist(), anchors.term.tolist()

    assert found(0, 1) == ([1, 0], [pytest.approx(0.6), 0.0])
    assert found(1, 0)[0][0] == 1
    assert found(1, 0)[1] == [pytest.approx(1.0), 0.0]
    assert found(2)[1] == [0.0, 0.0]
    assert found()[1] == [0.0, 0.0]


def test_an_event_of_the_item_itself_is_no_reason_for_it() -> None:
    model = LinearItemModel(np.ones((2, 2), np.float32), half_life=1.0, history=10)
    anchors = strongest_anchors(model, history_of([0, 1]), np.array([1], np.int32), np.ones(2, bool))
    assert (anchors.position[0], anchors.term[0]) == (0, pytest.approx(0.5))


def test_high_and_low_are_the_outer_thirds_of_the_knots() -> None:
    assert outer(np.arange(7, dtype=np.float32)) == (2.0, 4.0)
