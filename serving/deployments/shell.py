"""What the replicas of every stage share: a part of a bundle, loaded off the event loop, asked by version."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from serving.config import ServeConfig, Traffic
from serving.deployments import hops
from serving.deployments.exposition import GaugeFile
from serving.observe import logs, tracing
from serving.settings import Settings
from serving.traffic.following import Follower
from serving.traffic.standing import Standing
from serving.traffic.table import InService
from training.bundle import Bundle, read_bundle

log = logging.getLogger(__name__)

T = TypeVar("T")


def one_thread() -> None:
    """A replica computes on one thread: requests run side by side, and threads of a BLAS would only fight
    over the cores that Ray has shared out."""
    from threadpoolctl import threadpool_limits  # on replicas only, after numpy

    threadpool_limits(1)


def observed(config: ServeConfig) -> None:
    """Sets up this replica's own lines, and its spans where the environment asks for them."""
    settings = Settings.read()
    logs.configure(config.logs, settings.log_key, settings.log_socket)
    if settings.traced:
        tracing.start()


def follower(service: InService[Any], config: ServeConfig) -> Follower | None:
    """Who keeps the service on the traffic of a file; None where `user_config` brings it."""
    if not config.traffic_file:
        return None
    return Follower(Path(config.traffic_file), service, config.first, settle)


async def reconfigured(
    service: InService[Any], user_config: Mapping[str, Any], following: Follower | None = None
) -> None:
    """Puts the traffic of `user_config`, or of the file that is followed, into service; Ray Serve calls for
    it before the replica is sent requests and at every change. Only the first may raise: later Serve would
    end the replica, and with it what serves. Where a file is followed nothing raises.

    Raises:
        ValidationError: the first traffic is none.
        Exception: its production bundle was refused.
    """
    if following is not None:
        await following.begin()
        return
    first = service.table is None
    try:
        traffic = Traffic.model_validate(user_config)
    except ValidationError as error:
        if first:
            raise
        log.error("what is in service stays, as the new traffic is none: %s", error)
        service.refused(error)
        return
    await service.put(traffic)
    if first:
        settle()


def settle() -> None:
    """What was loaded stays for good, and what loading it took goes back to the machine (about 10 MB)."""
    import pyarrow  # on replicas only, which read a bundle with it

    gc.collect()
    gc.freeze()  # the collector's full passes would look at all of it each time
    pyarrow.default_memory_pool().release_unused()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc's alone
        trim(0)


def reporting(service: InService[Any], following: Follower) -> asyncio.Task[None] | None:
    """Shows how far a stage's replica is, in a file that the pod's exporter reads; None without a folder."""
    if (folder := Settings.read().metrics_dir) is None:
        return None
    registry = CollectorRegistry()
    registry.register(Standing(service, following))
    file = GaugeFile(registry, folder)
    following.told = service.told = file.soon
    return asyncio.create_task(file.keep_written())


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """What one stage needs of a bundle."""

    version: str
    stage: T


class Shell(Generic[T]):
    """The replica of one stage; a subclass says what to build and adds the method that is called."""

    def __init__(self, config: ServeConfig) -> None:
        one_thread()
        observed(config)
        self._config = config
        self._service: InService[Part[T]] = InService(self._load)
        self._following = follower(self._service, config)
        self._reporting: asyncio.Task[None] | None = None

    def _build(self, bundle: Bundle, config: ServeConfig) -> T:
        """Imports `serving.assemble` itself, so that who deploys the class need not."""
        raise NotImplementedError

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """`serving.config.Traffic`."""
        if self._following is not None and self._reporting is None:
            self._reporting = reporting(self._service, self._following)
        await reconfigured(self._service, user_config, self._following)

    async def each(
        self, method: str, version: str, asked: Sequence[hops.Arguments], within_s: float
    ) -> tuple[Any, ...]:
        """What `method` answers to each of several requests, or the class of the error it failed with."""
        return await hops.each(partial(getattr(self, method), version), asked, within_s)

    def _stage(self, version: str) -> T:
        return self._service.of(version).stage

    async def _load(self, url: str) -> Part[T]:
        return await asyncio.to_thread(self._read, url)

    def _read(self, url: str) -> Part[T]:
        bundle = read_bundle(url)
        return Part(bundle.manifest.version, self._build(bundle, self._config))
