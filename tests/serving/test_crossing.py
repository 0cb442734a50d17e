"""What crosses to another replica: a few buffers, however many requests, which arrive as they were."""

from __future__ import annotations

import pickle
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from serving.batch import Candidates, Histories, Queries
from serving.state import Loss, State, Timing
from serving.types import Contribution, Diversity, Explanation, History, Query
from tests.serving.doubles import batch_of, queries_of
from training.models.ragged import Ragged

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
    items=np.array([4, 5], np.int32),
    filter={"year": {"gte": 1990}},
    exclude=np.array([6], np.int32),
    met=np.array([7, 8], np.int32),
    disliked=np.array([8], np.int32),
    diversity=Diversity("mmr", 0.25),
    explain=True,
    context={"device": "tv"},
    history=HISTORY,
    user_features=np.array([0.1, 0.2], np.float32),
    traceparent="00-a-b-01",
)
PLAIN = Query(request_id="r", user_id=None, now=1.0, deadline=2.0, count=1)
TYPES = (Queries, Candidates, State, Histories, Ragged, Loss, Timing, Explanation, Contribution)


def crossed(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))


def assert_same(left: Any, right: Any) -> None:
    assert type(left) is type(right)
    if isinstance(left, TYPES):
        for part in fields(left):
            if part.compare:
                assert_same(getattr(left, part.name), getattr(right, part.name))
    elif isinstance(left, np.ndarray):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
    elif isinstance(left, dict):
        assert_same(tuple(left), tuple(right))
        assert_same(tuple(left.values()), tuple(right.values()))
    elif isinstance(left, tuple):
        assert len(left) == len(right)
        for ours, theirs in zip(left, right, strict=True):
            assert_same(ours, theirs)
    else:
        assert left == right


def state(*queries: Query) -> State:
    b = len(queries)
    asked = queries_of(*queries, user_width=2)
    found = batch_of(*[[9, 8]] * b).with_source(1)
    begun = State.begin(asked, np.arange(b, dtype=np.float64), 2).lose("blend", ValueError("x"), np.arange(b))
    counts = np.arange(b)
    timed = begun.took(Timing("blend", 1.0, 0.5, counts, counts, counts > 0))
    explanations = ((Explanation("words", 3, (Contribution("ease", 0.5, 0.25),)),),) * b
    return State(
        timed.queries, timed.deadline, (found, None), timed.contributed,
        found.with_score(np.ones(2 * b, np.float32)).with_columns({"age": np.ones(2 * b, np.float32)}),
        explanations, ("late",) * b, timed.losses, timed.timings,
    )  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        queries_of(WHOLE, PLAIN, user_width=2),
        queries_of(user_width=2),
        Candidates.empty(0),
        Candidates.empty(2),
        batch_of([9, 8], [], [1]).with_source(3),
        batch_of([9, 8]).with_score(np.array([1.0, 2.0], np.float32)),
        state(WHOLE, PLAIN),
        state(PLAIN),
    ],
)
def test_a_value_arrives_as_it_was(value: Any) -> None:
    assert_same(crossed(value), value)


def test_what_stages_share_of_a_batch_stays_here() -> None:
    asked = queries_of(WHOLE, user_width=2)
    asked.once("scores", lambda: 1)
    assert crossed(asked.bare()).once("scores", lambda: 2) == 2
    assert asked.once("scores", lambda: 2) == 1


def test_a_batch_crosses_as_the_buffers_of_one_request() -> None:
    """Not an object a request: only what a request said in words is one."""

    def buffers(*queries: Query) -> int:
        found: list[pickle.PickleBuffer] = []
        pickle.dumps(queries_of(*queries, user_width=2), protocol=5, buffer_callback=found.append)
        return len(found)

    assert buffers(*[WHOLE] * 32) == buffers(WHOLE)
