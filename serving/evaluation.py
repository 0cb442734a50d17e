"""The served pipeline as a recommender that can be judged offline: the same bundle, stages and executor, over
an online store that holds what was known just before each held-out event."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from features.memory_store import MemoryOnlineStore
from serving.build import compose
from serving.config import Budgets, ServeConfig
from serving.engine import Engine
from serving.errors import ServingError
from serving.http.wire import recommendation_body
from serving.pipeline import Pipeline
from serving.types import Int32, Query, Recommendation
from training.bundle import Bundle
from training.cases import Cases
from training.data.tables import Tables
from training.feedback import Seen

PATIENT = Budgets(
    request=60_000,
    request_max=60_000,
    features=60_000,
    source=60_000,
    ranker=60_000,
    diversity=60_000,
    explainer=60_000,
)
"""Offline a slow machine must not turn into a worse answer."""


class DegradedEvaluation(ServingError):
    """A stage was lost while the pipeline was being judged: the figures would not be its own."""


class ServedPipeline:
    """Implements `training.evaluate.Recommender` and `Retriever`; diversity is off."""

    name = "marquee"

    def __init__(self, bundle: Bundle, tables: Tables) -> None:
        self._bundle = bundle
        self._tables = tables
        self._config = ServeConfig(bundle=bundle.manifest.version, budgets=PATIENT)

    def recommend(self, cases: Cases, k: int) -> Int32:
        """int32 [n, k]: the pipeline's answers, each written as a client would get it: a bundle whose answers
        cannot be written must not pass.

        Raises:
            DegradedEvaluation: an answer lacked a stage.
        """
        engine = self._engine(cases)
        return asyncio.run(
            self._answers(engine.recommend, cases, k, lambda answer: recommendation_body(answer, engine))
        )

    def retrieve(self, cases: Cases, k: int) -> Int32:
        """int32 [n, k]: the blended candidates, before ranking."""
        pipeline = self._engine(cases).recommend
        retrieval_only = replace(pipeline, scorer=None, selector=None, explainer=None)
        return asyncio.run(self._answers(retrieval_only, cases, k, lambda answer: None))

    def _engine(self, cases: Cases) -> Engine:
        return compose(self._bundle, self._store(cases), self._config)

    def _store(self, cases: Cases) -> MemoryOnlineStore:
        """Users of the cases as they were before their held-out event, and nothing of other users."""
        events, users = cases.data.every, cases.data.events.user_index
        known = np.isin(events.user_index, users[cases.positions])
        for position in cases.positions.tolist():
            known[cases.data.at[position] : events.offsets[users[position] + 1]] = False
        rows = np.sort(events.row[known])
        tables = self._tables
        return MemoryOnlineStore.from_events(
            self._bundle.schema, tables.interactions.take(rows), tables.items, tables.users
        )

    async def _answers(
        self,
        pipeline: Pipeline,
        cases: Cases,
        k: int,
        written: Callable[[Recommendation], object],
    ) -> Int32:
        found = np.full((len(cases), k), -1, np.int32)
        rows = enumerate(_queries(cases, k, self._bundle.manifest.feedback.seen))
        while some := tuple(islice(rows, self._config.batching.max_batch)):  # computed as one
            answers = await asyncio.gather(*(pipeline.run(query) for _, query in some))
            for (row, query), answer in zip(some, answers, strict=True):
                if answer.degraded:
                    lost = ", ".join(answer.degraded)
                    raise DegradedEvaluation(f"lost {lost} for user {query.user_id!r}")
                written(answer)
                found[row, : len(answer.shown)] = answer.shown.item_index
        return found


def _queries(cases: Cases, k: int, seen: Seen) -> Iterator[Query]:
    for user_id, now in zip(cases.user_ids, cases.now.tolist(), strict=True):
        deadline = time.monotonic() + PATIENT.request / 1e3
        yield Query("evaluation", user_id, float(now), deadline, count=k, seen=seen, explain=True)
