"""What answers a request: the bundle that is its user's in the traffic, watched, with shadows after it.

Does not belong here: HTTP, how bundles are loaded, and how an engine answers.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry

from serving.config import ShadowConfig, Traffic
from serving.engine import Engine
from serving.errors import InvalidFilter, Unavailable, UnknownItems
from serving.observe import logs
from serving.pipeline import Pipeline
from serving.traffic.bundle_metrics import BundleMetrics
from serving.traffic.shadow import Request, Shadows
from serving.traffic.table import Table
from serving.types import Recommendation

LOADING_RETRY_S = 2.0
"""Seconds; a bundle of a small catalogue loads in about this time, and the wait is told, not enforced."""

Encode = Callable[[Recommendation, Engine], bytes]


@dataclass(slots=True)
class Live:
    """For one event loop. `table` is None while nothing is loaded; `waiting` says what that waits for."""

    metrics: BundleMetrics
    shadows: Shadows
    table: Table[Engine] | None = None
    waiting: Callable[[], str] = lambda: ""

    @classmethod
    def of(cls, engine: Engine | None = None) -> Live:
        """One bundle for everybody, or none yet, measured in a registry that nobody reads."""
        metrics = BundleMetrics(CollectorRegistry())
        live = cls(metrics, Shadows(ShadowConfig(), metrics))
        if engine is not None:
            live.swap(Table.of(Traffic.of(engine.version), [engine]))
        return live

    def swap(self, table: Table[Engine]) -> None:
        """Answers by this table from the next request on."""
        self.metrics.swapped(table)
        self.shadows.swapped(table.shadows)
        self.table = table

    @property
    def production(self) -> Engine:
        """Raises Unavailable while nothing is loaded."""
        return self._loaded().production

    async def answer(
        self, request: Request, encode: Encode
    ) -> tuple[bytes, Callable[[], Awaitable[None]] | None]:
        """The answer's body, and what remains to be done when it has gone.

        Raises:
            Unavailable: nothing is loaded, or the engine cannot answer.
            InvalidFilter, UnknownItems: the client's mistakes, which say nothing of a bundle.
        """
        table = self._loaded()
        engine = table.choose(request.key)
        watch = self.metrics.watch(engine.version)
        pipeline = request.pipeline(engine)
        started = time.perf_counter()
        try:
            recommendation = await pipeline.run(request.query(engine))
            body = encode(recommendation, engine)
        except (InvalidFilter, UnknownItems):
            raise
        except Exception:
            watch.error()
            watch.seconds(time.perf_counter() - started)
            raise
        logs.recommended(recommendation, engine.version)
        watch.ok()
        watch.seconds(time.perf_counter() - started)
        if recommendation.degraded:
            watch.degraded()
        if not len(recommendation.shown):
            watch.empty()
        if request.kind == "recommend":
            watch.window.add(recommendation.shown)
        copied = engine is table.production and self.shadows.wanted()
        if not (copied or pipeline.side_effects):
            return body, None
        return body, partial(self._afterwards, request, engine, pipeline, recommendation, copied)

    async def _afterwards(
        self,
        request: Request,
        engine: Engine,
        pipeline: Pipeline,
        recommendation: Recommendation,
        copied: bool,
    ) -> None:
        if copied:
            self.shadows.offer(request, engine, recommendation.shown)
        await pipeline.record(recommendation)

    def _loaded(self) -> Table[Engine]:
        if self.table is None:
            raise Unavailable(self.waiting() or "no bundle is loaded yet", LOADING_RETRY_S)
        return self.table
