"""The failure table after retrieval: what is answered without the ranker, without diversity, without reasons.
As `test_failure_policy`, on virtual time.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from serving.batch import Candidates, Queries
from serving.types import Explanation, Float32
from tests.faults.bench import (
    ITEMS,
    RETRIEVED,
    RISING,
    Bench,
    N,
    shown,
)
from tests.serving.doubles import (
    CatalogueHydrator,
    ItemScorer,
    LastSelector,
    ScoreExplainer,
)
from tests.serving.virtual import fails, hangs, lasts
from training.models.ragged import Ragged, splits

# Ranker → retrieval order.


class ForgetfulHydrator(CatalogueHydrator):
    def hydrate(self, queries: Queries, candidates: Candidates) -> Candidates:
        return candidates.with_columns({"f0": np.zeros(len(candidates.item_index) - 1, np.float32)})


class ShufflingHydrator(CatalogueHydrator):
    def hydrate(self, queries: Queries, candidates: Candidates) -> Candidates:
        return candidates.pick(np.arange(len(candidates.item_index))[::-1], candidates.row_splits)


class ShorteningHydrator(CatalogueHydrator):
    def hydrate(self, queries: Queries, candidates: Candidates) -> Candidates:
        return candidates.keep(np.arange(len(candidates.item_index)) > 0)


class ShortScorer(ItemScorer):
    def score(self, queries: Queries, candidates: Candidates) -> Float32:
        return self.scores[candidates.item_index[1:]]


class SquareScorer(ItemScorer):
    def score(self, queries: Queries, candidates: Candidates) -> Float32:
        return np.zeros((len(candidates.item_index), 1), np.float32)


class NoScorer(ItemScorer):
    def score(self, queries: Queries, candidates: Candidates) -> Float32:
        return None  # type: ignore[return-value]  # a fault may be anything


def scores(*values: float) -> ItemScorer:
    return replace(RISING, scores=np.array(values, np.float32))


@pytest.mark.parametrize(
    ("stages", "reason"),
    [
        ({"scorer": replace(RISING, fault=fails)}, "ConnectionError"),
        ({"scorer": replace(RISING, fault=hangs)}, "TimeoutError"),
        ({"scorer": replace(RISING, fault=lasts(0.3))}, "TimeoutError"),
        ({"hydrators": (replace(ITEMS, fault=fails),)}, "ConnectionError"),
        ({"hydrators": (replace(ITEMS, fault=hangs),)}, "TimeoutError"),
        ({"hydrators": (ForgetfulHydrator("items"),)}, "InvariantViolation"),
        ({"hydrators": (ShufflingHydrator("items"),)}, "InvariantViolation"),
        ({"hydrators": (ShorteningHydrator("items"),)}, "InvariantViolation"),
        ({"scorer": NoScorer("ranker")}, "AttributeError"),
        ({"scorer": ShortScorer("ranker", scores=RISING.scores)}, "InvariantViolation"),
        ({"scorer": SquareScorer("ranker")}, "InvariantViolation"),
        ({"scorer": scores(*[np.nan] * N)}, "InvariantViolation"),
        ({"scorer": scores(0, 1, 2, np.inf, *[0] * 6)}, "InvariantViolation"),
        ({"scorer": scores(0, 1, 2, -np.inf, *[0] * 6)}, "InvariantViolation"),
    ],
    ids=[
        "scorer fails", "scorer hangs", "scorer computes for 300 ms", "hydrator fails", "hydrator hangs",
        "columns of fewer rows", "hydrator shuffles", "hydrator drops", "no score", "fewer scores",
        "scores of two dimensions", "all NaN", "one infinite", "one -infinite",
    ],
)  # fmt: skip
def test_without_ranker_retrieval_order(bench: Bench, stages: dict[str, object], reason: str) -> None:
    answer = bench.broken(selector=None, **stages).ask(count=10)
    assert shown(answer) == RETRIEVED
    assert (answer.degraded, answer.explanations) == (("ranker",), ())
    assert answer.shown.score is None
    assert bench.counts.losses == [("ranker", reason)]


# Diversity → the ranked top k.


@dataclass(frozen=True)
class FixedSelector(LastSelector):
    chosen: Any = None

    def select(self, queries: Queries, candidates: Candidates) -> Ragged[np.int64]:
        return self.chosen  # type: ignore[no-any-return]  # a fault may be anything


def chooses(*places: Any) -> FixedSelector:
    return FixedSelector("selector", chosen=Ragged(np.array(places), splits([len(places)])))


@pytest.mark.parametrize(
    ("selector", "reason"),
    [
        (LastSelector("selector", fault=fails), "ConnectionError"),
        (LastSelector("selector", fault=hangs), "TimeoutError"),
        (LastSelector("selector", fault=lasts(0.3)), "TimeoutError"),
        (chooses(0), "InvariantViolation"),
        (chooses(0, 1, 2), "InvariantViolation"),
        (chooses(1, 1), "InvariantViolation"),
        (chooses(0, 6), "InvariantViolation"),
        (chooses(0, -1), "InvariantViolation"),
        (chooses(0.0, 1.0), "InvariantViolation"),
        (chooses(True, False), "InvariantViolation"),
        (chooses([0], [1]), "InvariantViolation"),
        (FixedSelector("selector", chosen=Ragged(np.array([0, 1, 2]), splits([2]))), "InvariantViolation"),
        (FixedSelector("selector", chosen=Ragged(np.array([0, 1]), splits([1, 1]))), "InvariantViolation"),
        (FixedSelector("selector"), "AttributeError"),
    ],
    ids=[
        "fails", "hangs", "computes for 300 ms", "too few", "too many", "twice", "beyond the end", "negative",
        "floats", "a mask", "two dimensions", "more than its splits", "of two requests", "nothing",
    ],
)  # fmt: skip
def test_without_diversity_the_ranked_top(bench: Bench, selector: LastSelector, reason: str) -> None:
    answer = bench.broken(selector=selector).ask()
    assert shown(answer) == [6, 5]
    assert (answer.degraded, len(answer.explanations)) == (("diversity",), 2)
    assert bench.counts.losses == [("diversity", reason)]


# Explainer → no reasons.


class SilentExplainer(ScoreExplainer):
    def explain(self, queries: Queries, candidates: Candidates) -> tuple[tuple[Explanation, ...], ...]:
        return ((),) * len(queries)


class LonelyExplainer(ScoreExplainer):
    def explain(self, queries: Queries, candidates: Candidates) -> tuple[tuple[Explanation, ...], ...]:
        return (*super().explain(queries, candidates), ())


@pytest.mark.parametrize(
    ("explainer", "reason"),
    [
        (ScoreExplainer("explainer", fault=fails), "ConnectionError"),
        (ScoreExplainer("explainer", fault=hangs), "TimeoutError"),
        (ScoreExplainer("explainer", fault=lasts(0.3)), "TimeoutError"),
        (SilentExplainer("explainer"), "InvariantViolation"),
        (LonelyExplainer("explainer"), "InvariantViolation"),
    ],
)
def test_without_explainer_no_reasons(bench: Bench, explainer: ScoreExplainer, reason: str) -> None:
    answer = bench.broken(explainer=explainer).ask()
    assert (shown(answer), answer.explanations, answer.degraded) == ([1, 2], (), ("explainer",))
    assert bench.counts.losses == [("explainer", reason)]
