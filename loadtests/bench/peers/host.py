"""What every peer hosts: one engine over the bundle and the same Feast on the same Redis, and the pydantic
models a user of these servers would write.

Does not belong here: any server.
"""

from __future__ import annotations

import argparse
import os
import time
import uuid
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from features.cached import CachingStore, online_store
from features.feast_store import FeastOnlineStore
from features.store import OnlineStore
from serving.build import Placement, compose
from serving.config import Budgets, CacheConfig, ServeConfig
from serving.deployments.replica import one_thread
from serving.engine import Engine
from serving.http.schemas import RecommendationRequest, Session, SessionEvent
from serving.http.wire import Arrival, recommendation_query
from serving.program import Here
from serving.types import Explanation, Query, Recommendation
from serving.worker_threads import WorkerThreads
from training.bundle import read_bundle

PATIENCE_MS = 30_000.0
"""Every budget of every arm, ms: an overloaded server must answer late and whole, not early and with less, or
requests/s would count answers that were cheaper."""

PATH = "/v1/recommendations"


def patient(bundle: str) -> ServeConfig:
    """The configuration of every arm, Marquee's included: its defaults, with budgets that are never used up
    and without a cache of answers, as no peer has one. Users' rows are kept in every arm."""
    budgets = Budgets(**dict.fromkeys(Budgets.model_fields, PATIENCE_MS))
    return ServeConfig(bundle=bundle, budgets=budgets, cache=CacheConfig(items=0))


class PeerSession(Session):
    events: list[SessionEvent]


class PeerRequest(RecommendationRequest):
    """The v1 request, with the fields whose bounds Marquee takes from its configuration left unbounded."""

    model_config = ConfigDict(extra="forbid")

    session: PeerSession | None = None
    timeout_ms: int | None = None
    exclude_ids: list[str] = []  # noqa: RUF012 - pydantic copies it


class Term(BaseModel):
    feature: str
    value: float
    contribution: float


class Anchor(BaseModel):
    id: str
    title: str


class Reason(BaseModel):
    sentence: str | None
    anchor: Anchor | None
    contributions: list[Term]


class Item(BaseModel):
    id: str
    rank: int
    score: float
    sources: list[str]
    reasons: list[Reason]
    properties: dict[str, Any]


class Model(BaseModel):
    bundle: str
    version: str


class PeerResponse(BaseModel):
    """The v1 response."""

    recommendation_id: str
    items: list[Item]
    model: Model
    degraded: list[str]
    timings: dict[str, float]
    next_cursor: None = None
    experiment: None = None
    tier: str
    feature_age_s: float | None


@dataclass(frozen=True, slots=True)
class Host:
    """One worker's engine. Belongs to the event loop that first answers with it."""

    config: ServeConfig
    engine: Engine
    store: OnlineStore

    def query(self, request: PeerRequest) -> Query:
        """What serving's own HTTP layer would make of the request."""
        arrival = Arrival(uuid.uuid4().hex, time.time(), time.monotonic() + self.config.budgets.request / 1e3)
        engine = self.engine
        return recommendation_query(
            request, engine.catalogue, engine.feedback, self.config.diversity, arrival
        )

    async def answer(self, request: PeerRequest) -> PeerResponse:
        return self.response(await self.engine.recommend.run(self.query(request)))

    def response(self, recommendation: Recommendation) -> PeerResponse:
        query, engine = recommendation.query, self.engine
        return PeerResponse(
            recommendation_id=query.request_id,
            items=self._items(recommendation),
            model=Model(bundle=engine.bundle, version=engine.version),
            degraded=list(recommendation.degraded),
            timings={stage: round(ms, 3) for stage, ms in recommendation.timings_ms.items()},
            tier=recommendation.tier,
            feature_age_s=None if query.feature_age_s is None else round(query.feature_age_s, 3),
        )

    def _items(self, recommendation: Recommendation) -> list[Item]:
        shown, catalogue = recommendation.shown, self.engine.catalogue
        score = shown.retrieval_score if shown.score is None else shown.score
        explanations = recommendation.explanations or (None,) * len(shown)
        columns = zip(
            shown.item_index.tolist(),
            score.tolist(),
            shown.source.tolist(),
            explanations,
            catalogue.properties(shown.item_index),
            strict=True,
        )
        return [
            Item(
                id=catalogue.ids[index],
                rank=rank,
                score=value,
                sources=[name for bit, name in enumerate(recommendation.sources) if bits >> bit & 1],
                reasons=[] if explanation is None else self._reasons(explanation),
                properties=properties,
            )
            for rank, (index, value, bits, explanation, properties) in enumerate(columns, start=1)
        ]

    def _reasons(self, explanation: Explanation) -> list[Reason]:
        if not (explanation.sentence or explanation.contributions):
            return []
        catalogue, at = self.engine.catalogue, explanation.anchor_index
        return [
            Reason(
                sentence=explanation.sentence,
                anchor=None if at is None else Anchor(id=catalogue.ids[at], title=catalogue.titles[at]),
                contributions=[
                    Term(feature=term.feature, value=term.value, contribution=term.contribution)
                    for term in explanation.contributions
                ],
            )
        ]


def host(bundle: str, redis_url: str) -> Host:
    """The engine over one read a request, which computes every request alone on the caller's thread: what a
    server without batching runs."""
    one_thread()
    config, contents = patient(bundle), read_bundle(bundle)
    alone = config.model_copy(update={"batching": config.batching.model_copy(update={"max_batch": 1})})
    store = CachingStore(FeastOnlineStore(contents.schema, redis_url), redis_url, config.cache.rows)
    return Host(config, compose(contents, store, alone), store)


def batched_host(bundle: str, redis_url: str, *, threads: bool = True) -> Host:
    """The engine with Marquee's batching, put in by hand: reads of the same moment are one, and the
    pipeline's own micro-batch queue (`serving.batcher`) forms the batches that its programs run.

    Args:
        threads: programs run beside the event loop, as in Marquee's replica; else on the caller's thread, for
            a server whose worker has nothing else to do.
    """
    one_thread()
    config, contents = patient(bundle), read_bundle(bundle)
    store = online_store(contents.schema, redis_url, config.cache.rows)
    runner = Here(WorkerThreads() if threads else None)
    return Host(config, compose(contents, store, config, placement=Placement(runner=runner)), store)


@dataclass(frozen=True, slots=True)
class Options:
    """The command line of every peer. `redis_url` comes from REDIS_URL: it carries a password."""

    bundle: str
    port: int
    redis_url: str

    @classmethod
    def read(cls, what: str, argv: list[str] | None = None) -> Options:
        parser = argparse.ArgumentParser(description=what, epilog="REDIS_URL: a Redis with the features.")
        parser.add_argument("--bundle", required=True, help="folder or URL of a bundle")
        parser.add_argument("--port", type=int, required=True)
        given = parser.parse_args(argv)
        if not (redis_url := os.environ.get("REDIS_URL")):
            parser.error("set REDIS_URL to a Redis that `marquee features` has filled")
        return cls(given.bundle, given.port, redis_url)
