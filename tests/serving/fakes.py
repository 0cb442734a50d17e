"""An engine over a catalogue of 40 items with real pipelines and filters, and a client that calls an ASGI
application directly, so that a test sees every message.

User `ann` rated i1 and i2; nobody else is known. What is personal about an item is that it follows one of
the history.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from starlette.types import ASGIApp, Message

from serving.batch import Candidates, Queries
from serving.config import Budgets, ServeConfig
from serving.eligibility import Eligibility, hidden, not_itself
from serving.engine import Engine
from serving.expressions import CatalogueFilter
from serving.filters import DuplicateFilter, EligibleFilter
from serving.observe.metrics import NullRecorder, Recorder
from serving.pipeline import Pipeline
from serving.program import Here, Runner
from serving.stages import SideEffect, Source
from serving.types import NO_ITEMS, Contribution, Explanation, Mask, Query
from tests.serving.doubles import (
    BestScoreBlender,
    FixedSource,
    ItemScorer,
    LastSelector,
    Named,
    batch_of,
    catalogue_of,
    history_of,
    queries_of,
)

N_ITEMS = 40
MINUTE = 60_000.0
PATIENT = Budgets(
    request=MINUTE,
    request_max=MINUTE,
    features=MINUTE,
    source=MINUTE,
    ranker=MINUTE,
    diversity=MINUTE,
    explainer=MINUTE,
)
"""Budgets (ms) for tests that are not about time: a stage that a busy machine held up is not lost."""

CONFIG = ServeConfig(bundle="file:///bundles/films", budgets=PATIENT)
JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Directory(Named):
    """Knows the history of `ann`, and holds it in memory."""

    def enabled(self, query: Query) -> bool:
        return query.user_id is not None

    def kept(self, query: Query) -> Query:
        if query.user_id != "ann":
            return replace(query, user_version=0)
        return replace(query, history=history_of([1, 2]), feature_age_s=12.3456, user_version=1)

    async def hydrate(self, queries: Sequence[Query]) -> list[Query]:
        return [self.kept(query) for query in queries]


@dataclass(frozen=True)
class Following(Named):
    """The ten items after each item of the history, or after the items that the query names."""

    personal: bool = True

    @staticmethod
    def takes(queries: Queries) -> Mask:
        told: Mask = queries.histories.item_index.lengths + queries.named.lengths > 0
        return told

    def retrieve(self, queries: Queries) -> Candidates:
        pairs = zip(queries.named, queries.histories.item_index, strict=True)
        starts = [named if len(named) else history for named, history in pairs]
        return batch_of(*(np.unique((each[:, None] + np.arange(1, 11)) % N_ITEMS) for each in starts))


@dataclass(frozen=True)
class NamedItems(Named):
    personal: bool = True

    def retrieve(self, queries: Queries) -> Candidates:
        return batch_of(*queries.named)


@dataclass(frozen=True)
class Tracing(Named):
    """Explains an item by the newest event of the history."""

    def explain(self, queries: Queries, candidates: Candidates) -> tuple[tuple[Explanation, ...], ...]:
        assert candidates.score is not None
        explained: list[list[Explanation]] = [[] for _ in range(len(queries))]
        for row, score in zip(candidates.row.tolist(), candidates.score.tolist(), strict=True):
            history = queries.histories.item_index[row]
            anchor = int(history[-1]) if len(history) else None
            sentence = None if anchor is None else "because you watched it"
            explained[row].append(Explanation(sentence, anchor, (Contribution("score", 1.0, score),)))
        return tuple(map(tuple, explained))


def engine_of(
    *sources: Source,
    recorder: Recorder | None = None,
    side_effects: tuple[SideEffect, ...] = (),
    budgets: Budgets = CONFIG.budgets,
    version: str = "7",
    here: Runner | None = None,
) -> Engine:
    """The engine; `sources` stand in for those of `recommend`. Without a runner it computes on the loop's
    thread."""
    catalogue = catalogue_of(N_ITEMS)
    rules = CatalogueFilter(catalogue)
    popular = FixedSource("popular", batch=batch_of(range(N_ITEMS)), personal=False)
    ranked: partial[dict[str, Any]] = partial(
        dict,
        query_hydrator=Directory("directory"),
        scorer=ItemScorer("ranker", scores=np.linspace(0.9, 0.1, N_ITEMS, dtype=np.float32)),
        explainer=Tracing("tracing"),
    )
    checks = (DuplicateFilter(), EligibleFilter(Eligibility(rules)))

    def pipeline(**given: Any) -> Pipeline:
        return Pipeline(
            blender=BestScoreBlender("blend"),
            user_width=0,
            admit=lambda query: rules.mask(query.filter),
            budgets=budgets,
            recorder=recorder or NullRecorder(),
            here=here or Here(),
            **given,
        )

    return Engine(
        bundle="films",
        version=version,
        catalogue=catalogue,
        pipelines={
            "recommend": pipeline(
                sources=sources or (Following("following"), popular),
                hidden=hidden,
                filters=checks,
                selector=_WhenAsked("diversity"),
                side_effects=side_effects,
                **ranked(),
            ),
            "similar": pipeline(
                sources=(Following("following", personal=False),), hidden=not_itself, filters=checks
            ),
            "rank": pipeline(sources=(NamedItems("named"),), hidden=lambda query: NO_ITEMS, **ranked()),
        },
        trained_at=1e9,
    )


@dataclass(frozen=True)
class _WhenAsked(LastSelector):
    @staticmethod
    def takes(queries: Queries) -> Mask:
        asked: Mask = queries.diversity > 0
        return asked


def eligible(engine: Engine, query: Query) -> Mask:
    """bool [n_items]: what the catalogue lets `recommend` return: the oracle of a filter's answer."""
    catalogue = CatalogueFilter(engine.catalogue)
    everything = batch_of(range(N_ITEMS))
    return EligibleFilter(Eligibility(catalogue)).keep(queries_of(query), everything)


@dataclass
class Reply:
    """What the application sent."""

    messages: list[Message] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def call(
    app: ASGIApp,
    path: str,
    body: bytes | Iterable[bytes] = b"",
    headers: Mapping[str, str] | None = None,
    method: str = "POST",
) -> Reply:
    """One exchange. A body in pieces is sent as such, without a Content-Length; an iterable that ends
    before the answer is a client that left."""
    sent = [*(JSON if headers is None else headers).items()]
    if isinstance(body, bytes):
        sent.append(("content-length", str(len(body))))
        pieces = iter([{"type": "http.request", "body": body, "more_body": False}])
    else:
        pieces = ({"type": "http.request", "body": piece, "more_body": True} for piece in body)
    reply = Reply()

    async def receive() -> Message:
        return next(pieces, {"type": "http.disconnect"})

    async def send(message: Message) -> None:
        reply.messages.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in sent],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    await app(scope, receive, send)
    return reply


async def post(app: ASGIApp, path: str, document: object, **headers: str) -> Reply:
    """One exchange with a JSON body. Header names are written with underscores."""
    named_headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return await call(app, path, json.dumps(document).encode(), JSON | named_headers)
