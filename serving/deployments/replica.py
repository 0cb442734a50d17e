"""What the ingress and the replicas of stages share: how they compute, log, and take their traffic."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from serving.config import ServeConfig
from serving.deployments.exposition import GaugeFile
from serving.observe import logs, tracing
from serving.settings import Settings
from serving.traffic.following import Follower
from serving.traffic.standing import Standing
from serving.traffic.table import InService


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


def follower(service: InService[Any], config: ServeConfig) -> Follower:
    """Keeps the service on the traffic of the configured file, which a cluster mounts; else on that of a
    local run, which must be able to serve it from the start; else on `config.bundle`."""
    if config.traffic_file:
        return Follower(Path(config.traffic_file), service, config.first, settle)
    return Follower(Settings.read().traffic_file, service, config.first, settle, patient=False)


def settle() -> None:
    """What was loaded stays for good, and what loading it took goes back to the machine (about 10 MB)."""
    import pyarrow  # on replicas only, which read a bundle with it

    gc.collect()
    gc.freeze()  # the collector's full passes would look at all of it each time
    pyarrow.default_memory_pool().release_unused()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc's alone
        trim(0)


async def reporting(registry: CollectorRegistry, service: InService[Any], following: Follower) -> None:
    """Adds how far this replica is to its gauges, and keeps them in a file that the exporter reads until it
    is cancelled; without a folder for that it returns at once."""
    registry.register(Standing(service, following))
    if folder := Settings.read().metrics_dir:
        file = GaugeFile(registry, folder)
        following.told = service.told = file.soon
        await file.keep_written()
