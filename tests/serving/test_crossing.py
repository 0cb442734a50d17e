"""What crosses to another replica arrives as it was, small, and the same object for a user who asks again."""

import pickle
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from serving.types import CandidateBatch, Diversity, History, Query

HISTORY = History(
    np.array([3, 1, 2], np.int32),
    np.array([5.0, 0.5, 1.0], np.float32),
    np.array([1e9, 2e9, 3e9], np.float64),
)
WHOLE = Query(
    request_id="r",
    user_id="ann",
    now=1.5e9,
    deadline=12.5,
    count=7,
    session=True,
    items=np.array([4, 5], np.int32),
    filter={"year": {"gte": 1990}},
    exclude=np.array([6], np.int32),
    seen="allow",
    met=np.array([7, 8], np.int32),
    disliked=np.array([8], np.int32),
    diversity=Diversity("mmr", 0.25),
    explain=True,
    context={"device": "tv"},
    history=HISTORY,
    user_features=np.array([0.1, 0.2], np.float32),
    feature_age_s=3.5,
    user_version=9,
    traceparent="00-a-b-01",
)
BARE = Query(request_id="r", user_id=None, now=1.0, deadline=2.0, count=1)


def crossed(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))


def assert_same(left: Any, right: Any) -> None:
    assert type(left) is type(right)
    if isinstance(left, (Query, History, CandidateBatch, Diversity)):
        for part in fields(left):
            assert_same(getattr(left, part.name), getattr(right, part.name))
    elif isinstance(left, np.ndarray):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
    else:
        assert left == right


BATCH = CandidateBatch.of(np.array([9, 8], np.int32), np.array([0.5, 0.25], np.float32)).with_source(3)


@pytest.mark.parametrize(
    "value",
    [
        WHOLE,
        BARE,
        HISTORY,
        History.empty(),
        CandidateBatch.empty(),
        CandidateBatch.empty().with_score(np.empty(0, np.float32)),
        BATCH,
        BATCH.with_score(np.array([1.0, 2.0], np.float32)),
        BATCH.with_features(np.ones((2, 3), np.float32)),
        BATCH.take(np.array([1])),
    ],
)
def test_a_value_arrives_as_it_was(value: Any) -> None:
    assert_same(crossed(value), value)


def test_columns_of_another_kind_arrive_as_the_kind_they_should_be() -> None:
    wide = CandidateBatch(np.array([1, 2]), np.array([1, 1]), np.array([0.5, 0.25]))
    assert_same(crossed(wide), CandidateBatch.of(*narrow(wide)).with_source(0))


def narrow(batch: CandidateBatch) -> tuple[Any, Any]:
    return batch.item_index.astype(np.int32), batch.retrieval_score.astype(np.float32)


def test_a_user_who_asks_again_arrives_as_the_same_history_and_features() -> None:
    first, second = crossed(WHOLE), crossed(WHOLE)
    assert first.history is second.history
    assert first.user_features is second.user_features


def test_another_history_of_the_same_length_is_another() -> None:
    other = History(HISTORY.item_index[::-1], HISTORY.value, HISTORY.timestamp)
    assert crossed(other).item_index.tolist() == [2, 1, 3]
    assert crossed(HISTORY).item_index.tolist() == [3, 1, 2]
