"""From a configuration to a Ray Serve application: its deployments, and how large each is.

serve.run(build(ServeConfig(bundle="file:///…")))            # here
serveConfigV2.applications[].import_path: serving.app:build  # on Kubernetes
"""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig, BackpressureConfig
from ray.serve.deployment import Application, Deployment

from serving.config import INGRESS, DeploymentConfig, ServeConfig
from serving.deployments.ingress import Ingress
from serving.deployments.stage_replica import StageReplica
from serving.settings import Settings

RETRY_AFTER_S = 1.0
"""Seconds a client turned away is asked to wait: about the time in which a full queue drains."""


def build(config: ServeConfig | dict[str, Any]) -> Application:
    """The application; Ray calls it with this one argument. Each group of `config.groups` becomes a
    deployment; the stages in no group run in the ingress. Which bundles are in traffic each replica reads
    itself (`serving.deployments.replica.follower`).

    Raises:
        pydantic.ValidationError: the configuration is not a `ServeConfig`.
    """
    config = ServeConfig.model_validate(config)
    groups = {
        group.stages: _deployment(StageReplica, name, group).bind(config, group.stages, group.runtime)
        for name, group in config.groups.items()
    }
    return _deployment(serve.ingress()(Ingress), INGRESS, config.ingress).bind(config, groups)


def _deployment(replica: type, name: str, size: DeploymentConfig) -> Deployment:
    """Of a class whose `reconfigure` is called, with what is empty here, before it is sent requests."""
    given = options(size)
    if metrics := Settings.read().metrics_dir:
        # Before the replica imports prometheus_client; and for nobody else, as Ray's own agents use it too.
        given["ray_actor_options"]["runtime_env"] = {"env_vars": {"PROMETHEUS_MULTIPROC_DIR": str(metrics)}}
    made = serve.deployment(name=name, user_config={}, **given)(replica)  # with a class first: a decorator
    assert isinstance(made, Deployment)
    return made


def options(size: DeploymentConfig) -> dict[str, Any]:
    """One deployment's numbers, in Ray Serve's words."""
    return {
        "max_ongoing_requests": size.max_ongoing_requests,
        "max_queued_requests": size.max_queued_requests,
        "backpressure_config": BackpressureConfig(status_code=503, retry_after_s=RETRY_AFTER_S),
        "autoscaling_config": AutoscalingConfig(**size.autoscaling.model_dump()),
        "health_check_period_s": size.health_check_period_s,
        "health_check_timeout_s": size.health_check_timeout_s,
        "graceful_shutdown_timeout_s": size.graceful_shutdown_timeout_s,
        "ray_actor_options": {"num_cpus": size.num_cpus, "num_gpus": size.num_gpus},
    }
