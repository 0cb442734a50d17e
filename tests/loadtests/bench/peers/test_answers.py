from copy import deepcopy
from typing import Any

import pytest

from loadtests.bench.peers.answers import TOLERANCE, Differs, check


def answer() -> dict[str, Any]:
    def item(item_id: str, rank: int, score: float) -> dict[str, Any]:
        return {"id": item_id, "rank": rank, "score": score, "sources": ["ease"], "reasons": []}

    return {"tier": "personalized", "degraded": [], "items": [item("1", 1, 2.0), item("2", 2, 1.0)]}


def test_equal_answers_pass_and_scores_may_differ_by_the_tolerance() -> None:
    other = answer()
    other["items"][0]["score"] += TOLERANCE / 2
    check("arm", [other], [answer()])


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["items"].reverse(),
        lambda found: found["items"].pop(),
        lambda found: found["items"][0].update(score=2.01),
        lambda found: found["items"][0].update(sources=["popular"]),
        lambda found: found["items"][1].update(reasons=[{"sentence": "because", "contributions": []}]),
        lambda found: found.update(degraded=["features"]),
        lambda found: found.update(tier="popular"),
    ],
)
def test_any_other_answer_is_an_error(change: Any) -> None:
    other = deepcopy(answer())
    change(other)
    with pytest.raises(Differs, match="arm: answer 1"):
        check("arm", [answer(), other], [answer(), answer()])


def test_an_answer_that_is_missing_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        check("arm", [answer()], [answer(), answer()])
