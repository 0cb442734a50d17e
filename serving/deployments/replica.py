"""What the ingress and the replicas of stages share: how they compute, log, and take their traffic."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from serving.config import ServeConfig, Traffic
from serving.deployments.exposition import GaugeFile
from serving.observe import logs, tracing
from serving.settings import Settings
from serving.traffic.following import Follower
from serving.traffic.standing import Standing
from serving.traffic.table import InService

log = logging.getLogger(__name__)


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
