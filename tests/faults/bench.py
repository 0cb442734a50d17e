"""A healthy pipeline to break, on virtual time, and the recorder that watches it."""

import asyncio
from dataclasses import dataclass, replace

import numpy as np
import pytest

from serving.config import Budgets
from serving.eligibility import hidden
from serving.errors import Unavailable
from serving.pipeline import Pipeline
from serving.program import Here
from serving.types import Query, Recommendation
from tests.serving.doubles import (
    BestScoreBlender,
    CatalogueHydrator,
    Counts,
    FixedSource,
    HistoryHydrator,
    ItemScorer,
    LastSelector,
    ScoreExplainer,
    batch_of,
    history_of,
    query_of,
)
from tests.serving.virtual import POOL, fails, hangs, lasts, run

N = 10
FAULTS = pytest.mark.parametrize(
    ("fault", "reason"),
    [(fails, "ConnectionError"), (hangs, "TimeoutError"), (lasts(0.3), "TimeoutError")],
    ids=["fails", "hangs", "computes for 300 ms"],
)
HISTORY = HistoryHydrator("history", history=history_of([9]))
TOWER = FixedSource("tower", batch=batch_of([1, 2, 3]))
EASE = FixedSource("ease", batch=batch_of([3, 4], scores=[5, 4]))
POPULAR = FixedSource("popular", batch=batch_of([5, 6], scores=[0.2, 0.1]), personal=False)
ITEMS = CatalogueHydrator("items", features=np.zeros((N, 2), np.float32))
RISING = ItemScorer("ranker", scores=np.arange(N, dtype=np.float32))
BUDGETS = Budgets()
ALL_SOURCES = (3 * BUDGETS.source + 1) / 1e3
"""Seconds in which all three sources may be lost one after another."""

RETRIEVED = [3, 4, 1, 2, 5, 6]
"""The order of retrieval. The ranker turns it round to 6 … 1; the selector then picks the worst two."""


@dataclass(frozen=True)
class Bench:
    """A healthy pipeline to break, and the recorder that watches it."""

    pipeline: Pipeline
    counts: Counts

    def ask(self, **fields: object) -> Recommendation:
        return run(self.pipeline.run(query_of(**{"count": 2, "explain": True, **fields})))

    def ask_and_time(self, **fields: object) -> tuple[Recommendation | Unavailable, float]:
        """The answer or the refusal, and when it came, in (virtual) seconds."""

        async def timed() -> tuple[Recommendation | Unavailable, float]:
            try:
                answer: Recommendation | Unavailable = await self.pipeline.run(query_of(**fields))
            except Unavailable as refusal:
                answer = refusal
            return answer, asyncio.get_running_loop().time()

        return run(timed())

    def broken(self, **stages: object) -> "Bench":
        return Bench(replace(self.pipeline, **stages), self.counts)  # type: ignore[arg-type]  # parameters of a test are wider


def healthy() -> Bench:
    counts = Counts()
    pipeline = Pipeline(
        query_hydrator=HISTORY,
        sources=(TOWER, EASE, POPULAR),
        blender=BestScoreBlender("blender"),
        hydrators=(ITEMS,),
        scorer=RISING,
        selector=LastSelector("selector"),
        explainer=ScoreExplainer("explainer"),
        hidden=hidden,
        user_width=0,
        here=Here(POOL),
        budgets=BUDGETS,
        recorder=counts,
    )
    return Bench(pipeline, counts)


def shown(answer: Recommendation) -> list[int]:
    return list(map(int, answer.shown.item_index))


def gathered(bench: Bench, *queries: Query) -> list[Recommendation | BaseException]:
    async def all_at_once() -> list[Recommendation | BaseException]:
        asked = (bench.pipeline.run(query) for query in queries)
        return await asyncio.gather(*asked, return_exceptions=True)

    return run(all_at_once())


HANGING: list[dict[str, object]] = [
    {"query_hydrator": replace(HISTORY, fault=hangs)},
    {"sources": (replace(TOWER, fault=hangs), EASE)},
    {"sources": (replace(TOWER, fault=hangs),)},
    {"blender": BestScoreBlender("blender", fault=hangs)},
    {"scorer": replace(RISING, fault=hangs)},
    {"selector": LastSelector("selector", fault=hangs)},
    {"explainer": ScoreExplainer("explainer", fault=hangs)},
]
STAGES = ["features", "one source", "every source", "blender", "scorer", "selector", "explainer"]
