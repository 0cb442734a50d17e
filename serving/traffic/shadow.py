"""Copies of production's requests, run on bundles that answer nobody, and compared with what was answered.

A copy starts after its response has gone. It is sampled, has a deadline of its own, and is dropped and
counted where enough of them run already. It uses no cache, no side effect and no metric of production.

Does not belong here: which bundles are shadows (`serving.traffic.table`).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from serving.config import ShadowConfig
from serving.engine import Engine
from serving.observe.metrics import NullRecorder
from serving.observe.quality import overlap
from serving.pipeline import Pipeline
from serving.traffic.bundle_metrics import BundleMetrics, ShadowWatch
from serving.types import Query, Shown

log = logging.getLogger(__name__)

Kind = Literal["recommend", "similar", "rank"]
"""Which pipeline of an engine answers."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request before a bundle is chosen for it: its query names items by their place in a catalogue.

    Attributes:
        key: of whoever asks, the same in every request of a user.
        query: made for the engine that answers. Raises what the client did wrong.
    """

    kind: Kind
    key: str
    query: Callable[[Engine], Query]

    def pipeline(self, engine: Engine) -> Pipeline:
        return engine.pipeline(self.kind)


class Shadows:
    """For one event loop."""

    def __init__(
        self, config: ShadowConfig, metrics: BundleMetrics, chance: Callable[[], float] = random.random
    ) -> None:
        """Args:
        chance: uniform in [0, 1); which requests are copied.
        """
        self._config = config
        self._metrics = metrics
        self._chance = chance
        self._engines: tuple[Engine, ...] = ()
        self._running: set[asyncio.Task[None]] = set()

    def swapped(self, engines: tuple[Engine, ...]) -> None:
        self._engines = tuple(map(_unrecorded, engines))

    def wanted(self) -> bool:
        """Whether to copy this request."""
        return bool(self._engines) and self._chance() < self._config.share

    def offer(self, request: Request, production: Engine, answered: Shown) -> None:
        """Starts the copies of a request that was answered; returns at once."""
        for engine in self._engines:
            watch = self._metrics.shadow(engine.version)
            if len(self._running) >= self._config.concurrency:
                watch.dropped()
                continue
            shown = [production.catalogue.ids[item] for item in answered.item_index.tolist()]
            task = asyncio.create_task(self._run(request, engine, watch, shown))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def settled(self) -> None:
        """Returns when no copy runs."""
        while self._running:
            await asyncio.wait(self._running)

    async def _run(self, request: Request, engine: Engine, watch: ShadowWatch, shown: list[str]) -> None:
        budget_s = self._config.budget_ms / 1e3
        try:
            query = replace(request.query(engine), deadline=time.monotonic() + budget_s)
            async with asyncio.timeout(budget_s):
                batch = (await request.pipeline(engine).run(query)).shown
        except Exception as error:  # also what is the client's mistake here and was none in production
            log.info("shadow %s failed: %r", engine.version, error)
            watch.error()
            return
        watch.ok()
        if request.kind == "recommend":
            watch.window.add(batch)
        if request.kind != "rank":  # whose items the client named
            watch.overlap(overlap(shown, [engine.catalogue.ids[item] for item in batch.item_index.tolist()]))


def _unrecorded(engine: Engine) -> Engine:
    return engine.with_pipelines(
        lambda pipeline: replace(pipeline, recorder=NullRecorder(), cache=None, side_effects=())
    )
