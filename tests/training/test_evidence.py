"""What a data set's values and repeats are taken to mean."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.manifest import DataError
from training.evidence import decide
from training.feedback import ALLOW_FROM, Feedback, sentence


def interactions(values: list[float], items: list[str] | None = None) -> pa.Table:
    """Events of one user, a minute apart; each of another item unless they are named."""
    named = [f"i{i}" for i in range(len(values))] if items is None else items
    return pa.table(
        {
            "user_id": pa.array(["u"] * len(values), pa.string()).dictionary_encode(),
            "item_id": pa.array(named, pa.string()).dictionary_encode(),
            "value": pa.array(values, pa.float32()),
            "timestamp": pa.array([1_700_000_000 + 60 * i for i in range(len(values))], pa.int64()),
        }
    )


@pytest.mark.parametrize(
    ("values", "disliked", "low", "usual"),
    [
        pytest.param([1, -1, 1, -1, 1], 0.0, 0.0, 1.0, id="thumbs, signed"),
        pytest.param([1, 0, 1, 1], 0.0, 0.0, 1.0, id="thumbs, 0 and 1"),
        pytest.param([0, 3, 2.5, 5, 45], 0.0, 0.0, 4.0, id="minutes watched: none is no like"),
        pytest.param([5, 4, 3, 4, 1, 5], None, pytest.approx(1 + 4 / 3), 4.0, id="stars"),
        pytest.param([0, 5, 4, 3, 4, 5], 0.0, pytest.approx(5 / 3), 4.0, id="stars from zero"),
        pytest.param([1, 1, 2, 1, 9, 1], None, None, 1.0, id="counts: most are low, none is little"),
        pytest.param([1, 1, 1], None, None, 1.0, id="no value"),
        pytest.param([0, 0, 0], None, None, 0.0, id="a column left empty"),
        pytest.param([], None, None, 1.0, id="nothing"),
    ],
)
def test_values_mean_what_their_scale_says(
    values: list[float], disliked: float | None, low: float | None, usual: float
) -> None:
    assert decide(interactions(values)) == Feedback("exclude", disliked, low, usual)


@pytest.mark.parametrize(
    ("setting", "disliked", "low"),
    [("none", None, pytest.approx(1 + 4 / 3)), ("3", 3.0, 3.0), ("-2", -2.0, pytest.approx(1 + 4 / 3))],
)
def test_the_recipe_may_say_what_a_dislike_is(setting: str, disliked: float | None, low: float) -> None:
    feedback = decide(interactions([5, 4, 3, 4, 1, 5]), disliked=setting)
    assert (feedback.disliked, feedback.low) == (disliked, low)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"disliked": "5"}, "no interaction has a value above 5 (the highest is 5)"),
        ({"disliked": "nan"}, "--disliked nan: give auto, none, or the highest value"),
        ({"disliked": "low"}, "--disliked low: give auto, none, or the highest value"),
        ({"seen": "boost"}, "--seen boost: give auto, exclude or allow"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(arguments: dict[str, str], said: str) -> None:
    with pytest.raises(DataError) as refused:
        decide(interactions([5, 4, 5]), **arguments)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([-1.0, 0.0, 1.0, 2.0, 5.0])), min_size=1))
def test_the_share_of_liked_repeats_decides_about_seen_items(events: list[tuple[int, float]]) -> None:
    items, values = [item for item, _ in events], [value for _, value in events]
    table = interactions(values, [f"i{item}" for item in items])
    feedback = decide(table)
    liked = [item for item, value in zip(items, values, strict=True) if not _disliked(value, values)]
    repeats = 1 - len(set(liked)) / len(liked)
    assert feedback.seen == ("allow" if repeats >= ALLOW_FROM else "exclude")
    assert decide(table, seen="exclude").seen == "exclude"
    assert decide(table, seen="allow").seen == "allow"
    kept = feedback.likes(np.array(values, np.float32))
    assert kept.tolist() == [not _disliked(value, values) for value in values]


def _disliked(value: float, values: list[float]) -> bool:
    return max(values) > 0 >= value


def test_it_is_said_in_a_sentence() -> None:
    assert sentence(Feedback("allow"), 0, 9).startswith(
        "what a user has met may be recommended again; no event"
    )
    assert sentence(Feedback("exclude", 0.0), 1_000, 4_000) == (
        "what a user has met is not recommended again; "
        "values of 0 or less are dislikes (1,000 of 4,000 events)"
    )
