"""What the replicas of every stage share: a part of a bundle, loaded off the event loop, asked by version."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from serving import hops, logs, tracing
from serving.config import ServeConfig, Traffic
from serving.settings import Settings
from serving.traffic import InService
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


async def reconfigured(service: InService[Any], user_config: Mapping[str, Any]) -> None:
    """Puts the traffic of `user_config` into service; Ray Serve calls for it before the replica is ready and
    at every change. Only the first may raise: later Serve would end the replica, and with it what serves.

    Raises:
        ValidationError: the first traffic is none.
        Exception: its production bundle was refused.
    """
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
        _settle()


def _settle() -> None:
    """What was loaded stays for good, and what loading it took goes back to the machine (about 10 MB)."""
    import pyarrow  # on replicas only, which read a bundle with it

    gc.collect()
    gc.freeze()  # the collector's full passes would look at all of it each time
    pyarrow.default_memory_pool().release_unused()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc's alone
        trim(0)


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

    def _build(self, bundle: Bundle, config: ServeConfig) -> T:
        """Imports `serving.assemble` itself, so that who deploys the class need not."""
        raise NotImplementedError

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """`serving.config.Traffic`."""
        await reconfigured(self._service, user_config)

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
