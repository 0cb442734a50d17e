import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.traffic import PLAIN, Mix, bodies, shares
from serving.config import ServeConfig
from serving.http.schemas import RecommendationRequest, bounds

FILTERS = [{"genres": {"any": ["Drama"]}}, {"year": {"gte": 1990}}]
ITEMS = [f"i{n}" for n in range(20)]
share = st.floats(0, 1)
mixes = st.builds(
    Mix,
    exponent=st.floats(0, 2),
    filtered=share,
    explained=share,
    visitors=share,
    session_events=st.integers(1, 30),
    count=st.integers(1, 100),
)


@given(st.integers(1, 500), st.floats(0, 2))
def test_shares_fall_with_the_rank_and_add_up(users: int, exponent: float) -> None:
    found = shares(users, exponent)
    assert found.sum() == pytest.approx(1)
    assert all(first >= second for first, second in pairwise(found.tolist()))


def test_shares_follow_zipf() -> None:
    found = shares(100, 1.0)
    assert found[0] / found[9] == pytest.approx(10)


@given(st.integers(1, 50), st.integers(0, 40), st.integers(0, 5), mixes)
def test_every_body_is_a_request_the_interface_accepts(users: int, count: int, seed: int, mix: Mix) -> None:
    made = bodies([f"u{n}" for n in range(users)], ITEMS, FILTERS, count, seed, mix)
    assert len(made) == count
    within = bounds(ServeConfig(bundle="any"))
    for body in made:
        assert "\n" not in body
        assert RecommendationRequest.parse(body.encode(), within).count == mix.count


@given(st.integers(0, 5), mixes)
def test_the_same_arguments_give_the_same_bodies(seed: int, mix: Mix) -> None:
    arguments = (["a", "b", "c"], ITEMS, FILTERS, 30, seed, mix)
    assert bodies(*arguments) == bodies(*arguments)


def test_the_mix_is_kept() -> None:
    made = [json.loads(body) for body in bodies([f"u{n}" for n in range(50)], ITEMS, FILTERS, 20_000)]
    mix = Mix()
    assert np.mean(["filter" in body for body in made]) == pytest.approx(mix.filtered, abs=0.01)
    assert np.mean(["explain" in body for body in made]) == pytest.approx(mix.explained, abs=0.01)
    assert np.mean(["session" in body for body in made]) == pytest.approx(mix.visitors, abs=0.01)


def test_the_most_active_user_asks_as_often_as_zipf_says() -> None:
    made = [json.loads(body)["user_id"] for body in bodies([f"u{n}" for n in range(50)], [], [], 20_000)]
    _, counts = np.unique(made, return_counts=True)
    assert counts.max() / len(made) == pytest.approx(shares(50, Mix().exponent)[0], abs=0.02)


def test_the_plain_mix_is_only_plain() -> None:
    for body in bodies(["u"], ITEMS, FILTERS, 200, mix=PLAIN):
        assert json.loads(body) == {"count": PLAIN.count, "user_id": "u"}


def test_without_items_or_filters_nobody_uses_them() -> None:
    mix = Mix(filtered=1.0, visitors=1.0)
    for body in bodies(["u"], [], [], 20, mix=mix):
        assert json.loads(body).keys() <= {"user_id", "count", "explain"}


def test_somebody_has_to_ask() -> None:
    with pytest.raises(ValueError, match="user_ids"):
        bodies([], ITEMS, FILTERS, 1)
