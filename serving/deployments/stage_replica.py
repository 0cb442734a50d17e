"""A replica of any group of stages: it holds their part of the bundles in traffic and runs their steps."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from serving.config import ServeConfig
from serving.deployments.replica import follower, observed, one_thread, reporting
from serving.deployments.stage_client import Outcome, Stages, received
from serving.observe import losses, tracing
from serving.observe.prometheus import lost_stages
from serving.runtime_options import RuntimeName
from serving.traffic.table import InService
from serving.worker_threads import WorkerThreads
from training.bundle import read_bundle

if TYPE_CHECKING:
    from serving.engine import Engine
    from serving.state import State


class StageReplica:
    """Plain; `serving.app` makes deployments of it.

    Attributes:
        registry: of its metrics.
    """

    def __init__(self, config: ServeConfig, stages: Stages, runtime: RuntimeName = RuntimeName.ONNX) -> None:
        """Args:
        stages: those of `serving.build.STAGES` that it runs.
        runtime: where their networks are computed.
        """
        from serving.runtime.factory import runtime as made  # here, so that who deploys the class need not

        one_thread()
        observed(config)
        self._config, self._stages = config, stages
        self._workers = WorkerThreads()
        self.registry = CollectorRegistry()
        lost = lost_stages(self.registry)
        failed = losses.of_runtime(runtime, lambda stage, reason: lost.labels(stage, reason).inc())
        self._networks = made(runtime, config.runtimes, failed, tracing.of_batch)
        self._service: InService[Engine] = InService(self._load)
        self._following = follower(self._service, config)
        self._reporting: asyncio.Task[None] | None = None

    async def reconfigure(self, _: dict[str, Any]) -> None:
        """As `serving.deployments.ingress.Ingress.reconfigure`."""
        if self._reporting is None:
            shown = reporting(self.registry, self._service, self._following)
            self._reporting = asyncio.create_task(shown)
        await self._following.begin()

    def check_health(self) -> None:
        """Ray Serve asks for it, and replaces a replica that raises.

        Raises:
            Hanging: a stage never returned.
        """
        self._workers.check()

    async def run(self, version: str, pipeline: str, stages: Stages, state: State) -> Outcome:
        """A batch through these stages (`serving.deployments.stage_client.Call`).

        Raises:
            OtherBundle: this replica does not hold the version.
        """
        served = self._service.of(version).pipeline(pipeline)
        done = await served.here.run(served.program_of(stages), received(state, time.monotonic()))
        return Outcome.after(done)

    def close(self) -> None:
        """Gives its threads and its runtime's connections back."""
        self._following.stop()
        if self._reporting is not None:
            self._reporting.cancel()
        self._workers.close()
        self._networks.close()

    async def _load(self, url: str) -> Engine:
        return await asyncio.to_thread(self._read, url)

    def _read(self, url: str) -> Engine:
        from serving.build import Placement, compose  # here, so that who deploys the class need not
        from serving.program import Here

        placement = Placement(self._stages, Here(self._workers))
        return compose(read_bundle(url), None, self._config, placement=placement, networks=self._networks)
