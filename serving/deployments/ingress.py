"""The replica that answers HTTP: it holds the engine in service, with proxies where stages run elsewhere."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from serving.api import create_api
from serving.config import ServeConfig
from serving.deployments.exposition import exposition
from serving.deployments.shell import one_thread, settle
from serving.prometheus import PrometheusRecorder
from serving.settings import Settings
from serving.traffic import InService

if TYPE_CHECKING:
    from fastapi import FastAPI
    from ray.serve.handle import DeploymentHandle

    from serving.engine import Engine


class Ingress:
    """A stage without a handle runs in this replica."""

    def __init__(
        self,
        config: ServeConfig,
        retrieval: DeploymentHandle[Any] | None = None,
        ranking: DeploymentHandle[Any] | None = None,
        diversity: DeploymentHandle[Any] | None = None,
        explain: DeploymentHandle[Any] | None = None,
    ) -> None:
        from serving.deployments.loading import EngineLoader, Handles  # imports Feast

        one_thread()
        settings = Settings.read()
        self._config = config
        self._metrics = PrometheusRecorder()
        self._exposition = exposition(self._metrics, settings.metrics_dir)
        handles = Handles(retrieval, ranking, diversity, explain).pickled_in_c()
        self._loader = EngineLoader(config, handles, settings.needed_redis_url(), self._metrics)
        self._service: InService[Engine] = InService(self._load, self._swapped, self._refused)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_api(
            lambda: self._service.current, self._config, self._metrics, exposition=self._exposition
        )

    async def reconfigure(self, user_config: dict[str, str]) -> None:
        """`{"bundle": url}`. Ray Serve calls it before the replica is ready, and at every change."""
        first = self._service.current is None
        await self._service.put(user_config["bundle"])
        if first:
            settle()

    async def settled(self) -> None:
        """Returns when no bundle is being loaded."""
        await self._service.settled()

    async def close(self) -> None:
        """Gives the store's connections back."""
        await self._loader.close()

    async def _load(self, url: str) -> Engine:
        """The first may lack a stage whose replicas are down; a later one must be worth swapping to."""
        return await self._loader.load(url, whole=self._service.current is not None)

    def _swapped(self, engine: Engine) -> None:
        with warnings.catch_warnings():
            # Where `build` lets replicas add up their metrics, prometheus_client says that clearing does not
            # reach the shared files. It need not: `exposition` takes gauges from this replica alone.
            warnings.filterwarnings("ignore", "Clearing labels", UserWarning)
            self._metrics.in_service(engine.bundle, engine.version)

    def _refused(self, error: Exception) -> None:
        self._metrics.lost("bundle", type(error).__name__)
