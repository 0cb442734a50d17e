"""From a bundle's URL to an engine that has answered: read, checked, composed as placed, warmed up.

Imported on ingress replicas only, because Feast takes seconds to import.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from features.cached import online_store
from features.marker import materialized
from features.schema import FeatureSchema
from features.store import OnlineStore, OnlineStoreError
from serving.build import STAGES, Placement, compose
from serving.config import ServeConfig
from serving.deployments.stage_client import StageClient, Stages
from serving.engine import Engine
from serving.errors import ServingError, Unavailable
from serving.http.wire import recommendation_body
from serving.observe import losses, tracing
from serving.observe.metrics import NullRecorder, Recorder
from serving.pipeline import Pipeline
from serving.program import Here, Runner
from serving.runtime.factory import runtime
from serving.runtime.protocol import Runtime
from serving.steps import FEATURES
from serving.types import Diversity, History, Query
from serving.worker_threads import WorkerThreads
from training.bundle import Bundle, read_bundle

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

log = logging.getLogger(__name__)

WARM_UP_S = 30.0
"""Seconds that the replicas of other stages have to load the bundle before a swap is given up."""

MOUNTED_S = 120.0
"""The same where a mounted file says what to load: the kubelets of other stages' pods may show it a minute
later than ours, and a bundle must not be refused for that. A first load does not wait so long."""

DEPLOYED_S = 600.0
"""Seconds that a first bundle waits for other stages while Serve is still deploying the application: a new
cluster's workers with GPUs come minutes after the others, and who is ready is sent requests."""

WARM_UP_PAUSE_S = 0.25
"""Seconds between two looks at them."""

STORE_S = 5.0
"""Seconds that the store of features has to answer a first read before a replica starts without it."""

WHOLE_ROUNDS = 8
"""Rounds in a row that must lose nothing where stages run elsewhere. A round asks twice: of four replicas of
a stage, one that has not loaded the bundle yet is missed once in a hundred times."""


class WarmUpFailed(ServingError):
    """An engine did not answer, or not without losing a stage."""


async def _never() -> bool:
    return False


Groups = Mapping[Stages, "DeploymentHandle[Any]"]
"""The stages of each group that runs on replicas of its own → its handle."""


def pickled_in_c(groups: Groups) -> Groups:
    """The same, but what crosses is pickled as it is: Ray Serve's default looks at each object in Python, for
    functions and classes that never cross here, and takes twice as long."""
    return {
        stages: handle.options(request_serialization="pickle", response_serialization="pickle")
        for stages, handle in groups.items()
    }


@dataclass
class EngineLoader:
    """Attributes:
    groups: the stages that run elsewhere.
    deploying: whether the application is still being deployed, so that their replicas are to be expected.
    workers: the threads of all other stages.
    """

    config: ServeConfig
    groups: Groups
    redis_url: str
    recorder: Recorder
    deploying: Callable[[], Awaitable[bool]] = _never
    workers: WorkerThreads = field(default_factory=WorkerThreads)
    _store: tuple[str, OnlineStore] | None = field(default=None, repr=False)

    @cached_property
    def _networks(self) -> Runtime:
        name = self.config.ingress.runtime
        failed = losses.of_runtime(name, self.recorder.lost)
        return runtime(name, self.config.runtimes, failed, tracing.of_batch)

    async def load(self, url: str, *, whole: bool) -> Engine:
        """The engine over the bundle at `url`.

        Raises:
            BundleError: the bundle was refused.
            WarmUpFailed: `whole` was asked for, and the engine answers only without some stage.
        """
        bundle = await asyncio.to_thread(self._read, url)
        store = await asyncio.to_thread(self._open_store, bundle.schema)
        await _connected(store)
        engine = await asyncio.to_thread(self._composed, bundle, store)
        await self._warmed_up(engine, whole)
        return engine

    async def close(self) -> None:
        if self._store is not None:
            await self._store[1].close()

    async def _warmed_up(self, engine: Engine, whole: bool) -> None:
        """Returns when the engine answers with all its stages; where `whole` is not asked for, also without
        one whose replicas are down, but not while they are only about to come.

        Raises:
            WarmUpFailed: `whole` was asked for, and the engine answers only without some stage.
        """
        within_s = MOUNTED_S if whole and self.config.traffic_file else WARM_UP_S
        rounds, end = WHOLE_ROUNDS if self.groups else 1, time.monotonic() + DEPLOYED_S
        while lost := ", ".join(sorted(await _warm_up(engine, rounds, within_s))):
            if whole:
                raise WarmUpFailed(f"bundle {engine.version} answers only without {lost}")
            if time.monotonic() > end or not (self.groups and await self.deploying()):
                log.warning("bundle %s answers, but without %s", engine.version, lost)
                return
            log.info("bundle %s waits for %s: the application is being deployed", engine.version, lost)

    def _read(self, url: str) -> Bundle:
        return read_bundle(url, fingerprint=_online_fingerprint(self.redis_url))

    def _open_store(self, schema: FeatureSchema) -> OnlineStore:
        """The one in use where the schema is the same, so that a swap opens no connections."""
        fingerprint = schema.fingerprint()
        if self._store is None or self._store[0] != fingerprint:
            self._store = fingerprint, online_store(schema, self.redis_url, self.config.cache.rows)
        return self._store[1]

    def _composed(self, bundle: Bundle, store: OnlineStore) -> Engine:
        groups = self.groups
        here = [stage for stage in STAGES if all(stage not in group for group in groups)]
        version = bundle.manifest.version

        def elsewhere(pipeline: str) -> dict[str, Runner]:
            clients = {
                group: StageClient(handle.run.remote, version, pipeline, group)
                for group, handle in groups.items()
            }
            return {stage: client for group, client in clients.items() for stage in group}

        placement = Placement(here, Here(self.workers), elsewhere)
        return compose(bundle, store, self.config, self.recorder, placement, self._networks)


def _online_fingerprint(redis_url: str) -> str | None:
    """The schema that the rows in Redis follow; None where there are none or Redis is down, and requests are
    then answered without features."""
    try:
        version = materialized(redis_url)
    except OnlineStoreError as error:
        log.warning("cannot tell which features are online: %s", error)
        return None
    return None if version is None else version.partition(":")[0]


async def _connected(store: OnlineStore) -> None:
    """Opens the store's connections by reading, without the deadline of a request: a first read makes
    connections and imports codecs, which takes longer than the features' budget, and the first users would
    be answered without theirs. A store that is down must not keep a replica from starting."""
    end = time.monotonic() + STORE_S
    while True:
        try:
            async with asyncio.timeout_at(
                asyncio.get_running_loop().time() + max(0.1, end - time.monotonic())
            ):
                await store.read_users(
                    ["warm-up", "warm-up too"]
                )  # as one request reads, past any cache of rows
                await store.read_users(["warm-up"])
            return
        except (OnlineStoreError, TimeoutError) as error:
            if time.monotonic() > end:
                log.warning("begins without features: %s", error or "the store does not answer")
                return
        await asyncio.sleep(WARM_UP_PAUSE_S)


async def _warm_up(engine: Engine, rounds: int, within_s: float) -> set[str]:
    """Answers made-up queries, unrecorded, until so many rounds in a row lost no stage, and says what was
    still lost when time was up."""
    pipeline = replace(engine.recommend, recorder=NullRecorder(), cache=None)
    lost: set[str] = set()
    async for _ in _tries(within_s):
        for _ in range(rounds):
            if lost := await _lost(pipeline, engine):
                break
        else:
            return set()
    return lost


async def _lost(pipeline: Pipeline, engine: Engine) -> set[str]:
    """What one round lost. Lost features do not count: the store is not the bundle's. Answers are written as
    clients get them; one that cannot be written is the bundle's fault, and its error goes on.

    Raises:
        WarmUpFailed: an answer cannot be written.
    """
    lost: set[str] = set()
    for query in _made_up(len(engine.catalogue)):
        try:
            answer = await pipeline.run(query)
        except Unavailable as error:
            lost |= {str(error)}
            continue
        lost |= {*answer.degraded} - {FEATURES}
        try:
            recommendation_body(answer, engine)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            raise WarmUpFailed(f"bundle {engine.version}: its answers cannot be written ({why})") from error
    return lost


def _made_up(n_items: int) -> tuple[Query, Query]:
    """A user nobody knows, and a session that touches every stage."""
    now, items = time.time(), np.arange(min(3, n_items), dtype=np.int32)
    unknown = Query(
        request_id="warm-up",
        user_id="warm-up",
        now=now,
        deadline=time.monotonic() + WARM_UP_S,
        count=10,
        diversity=Diversity("mmr", 0.3),
        explain=True,
    )
    history = History(items, np.ones(len(items), np.float32), np.full(len(items), now))
    return unknown, replace(unknown, user_id=None, session=True, history=history)


async def _tries(within_s: float) -> AsyncIterator[None]:
    """One go at once, then more with pauses until so many seconds have passed."""
    end = time.monotonic() + within_s
    while True:
        yield
        if time.monotonic() > end:
            return
        await asyncio.sleep(WARM_UP_PAUSE_S)
