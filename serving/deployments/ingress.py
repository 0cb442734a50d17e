"""The replica that answers HTTP: it holds the engines in traffic, with proxies where stages run elsewhere."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from serving.config import ServeConfig
from serving.deployments.exposition import exposition
from serving.deployments.replica import follower, observed, one_thread, reporting
from serving.deployments.stage_client import Stages
from serving.http.admin import Admin, add_admin_routes
from serving.http.api import create_api
from serving.observe import freshness
from serving.observe.prometheus import PrometheusRecorder
from serving.settings import Settings
from serving.traffic.bundle_metrics import BundleMetrics
from serving.traffic.live import Live
from serving.traffic.shadow import Shadows
from serving.traffic.table import InService, Table
from serving.traffic.traffic_file import TrafficFile

if TYPE_CHECKING:
    from fastapi import FastAPI
    from ray.serve.handle import DeploymentHandle

    from serving.engine import Engine


class Ingress:
    """A stage in no group runs in this replica."""

    def __init__(self, config: ServeConfig, groups: Mapping[Stages, DeploymentHandle[Any]]) -> None:
        """Args:
        groups: the stages of each group of replicas → its handle.
        """
        from serving.deployments.loading import EngineLoader, pickled_in_c  # imports Feast

        one_thread()
        observed(config)
        self._settings = settings = Settings.read()
        self._config = config
        self._metrics = PrometheusRecorder()
        bundles = BundleMetrics(self._metrics.registry)
        self._live = Live(bundles, Shadows(config.shadow, bundles))
        self._redis_url = settings.needed_redis_url()
        self._loader = EngineLoader(
            config, pickled_in_c(groups), self._redis_url, self._metrics, deploying=_deploying
        )
        self._service: InService[Engine] = InService(self._load, self._swapped, bundles.refused)
        self._following = follower(self._service, config)
        self._live.waiting = lambda: self._following.waiting
        self._watching: list[asyncio.Task[None]] = []

    def __serve_build_asgi_app__(self) -> FastAPI:
        shown = exposition(self._metrics, self._settings.metrics_dir)
        app = create_api(self._live, self._config, self._metrics, exposition=shown)
        if token := self._settings.read_admin_token():
            path = None if self._config.traffic_file else self._settings.traffic_file
            file = None if path is None else TrafficFile(path)
            add_admin_routes(app, Admin(token, lambda: self._service.desired, self._service.state, file))
        return app

    async def reconfigure(self, _: dict[str, Any]) -> None:
        """Returns when this replica may be sent requests, for which Ray Serve calls it.

        Raises:
            Exception: a local run's first bundle was refused (`serving.traffic.following.Follower.begin`).
        """
        if not self._watching:
            reported = reporting(self._metrics.registry, self._service, self._following)
            beside = (freshness.watch(self._redis_url, self._metrics), reported)
            self._watching = [asyncio.create_task(each) for each in beside]
        await self._following.begin()

    def check_health(self) -> None:
        """Ray Serve asks for it, and replaces a replica that raises.

        Raises:
            Hanging: a stage never returned.
        """
        self._loader.workers.check()

    async def settled(self) -> None:
        """Returns when no bundle is being loaded and no shadow runs."""
        await self._service.settled()
        await self._live.shadows.settled()

    async def close(self) -> None:
        """Gives the store's connections back."""
        self._following.stop()
        for task in self._watching:
            task.cancel()
        await self._loader.close()

    async def _load(self, url: str) -> Engine:
        """The first may lack a stage whose replicas are down; a later one must be worth swapping to."""
        return await self._loader.load(url, whole=self._service.table is not None)

    def _swapped(self, table: Table[Engine]) -> None:
        self._live.swap(table)
        with warnings.catch_warnings():
            # Where `build` lets replicas add up their metrics, prometheus_client says that clearing does not
            # reach the shared files. It need not: `exposition` takes gauges from this replica alone.
            warnings.filterwarnings("ignore", "Clearing labels", UserWarning)
            self._metrics.in_service(table.production.bundle, table.production.version)


async def _deploying() -> bool:
    """Whether Ray Serve has not had all replicas of this application running since it was last deployed."""
    from ray import serve  # on replicas, which have it; the class is read where it is not wanted
    from ray.serve.schema import ApplicationStatus

    name = serve.get_replica_context().app_name
    application = (await asyncio.to_thread(serve.status)).applications.get(name)
    missing = {ApplicationStatus.NOT_STARTED, ApplicationStatus.DEPLOYING, ApplicationStatus.DEPLOY_FAILED}
    return application is not None and application.status in missing
