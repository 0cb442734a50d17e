"""What Ray, Serve and HAProxy are told where a run has a machine to itself: settings, files, ports, and CPU
reservations that fit. On Kubernetes the chart says the same (`charts/marquee`).

Does not belong here: starting and stopping them (`serving.local.runtime`).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from serving.config import DeploymentConfig, ServeConfig

T = TypeVar("T", bound=DeploymentConfig)

LOGICAL_CPUS = 2
"""CPUs declared to Ray. On one machine they only decide placement, so reservations are scaled down to fit;
Ray also starts this many workers in advance, and each costs a second of CPU."""

QUIET = {"enable_access_log": False, "log_level": "WARNING"}
"""Serve's own logs: what it says of every request is in our metrics."""

ANSWER_S = 30.0
"""Seconds after which Serve gives up a request: above the application's deadlines, so it answers first."""


def ray_environment(folder: Path, ports: range) -> dict[str, str]:
    """What Ray and its HAProxy read: the throughput settings, files in the run's folder, the run's ports, and
    a token without which nobody else on the machine may use this Ray."""
    haproxy, metrics = folder / "h", folder / "metrics"
    haproxy.mkdir()
    metrics.mkdir()
    named, http, grpc = ports[:4], ports[4:14], ports[14:24]
    return {
        "MARQUEE_METRICS_DIR": str(metrics),
        "MALLOC_ARENA_MAX": "1",  # here alone: a heap a thread is 6 MB in Serve's processes, 16 in ours
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",  # s; by default 0.1, which takes 5 % of a core at rest
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # s; by default a slow start is killed after 5
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "5",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "m.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(named[0]),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(named[1]),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(named[2]),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(named[3]),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(http[0]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(http[-1]),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(grpc[0]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(grpc[-1]),
    }


def ray_port(ports: range) -> int:
    """Of the run's ports the one at which its Ray is joined."""
    return ports[24]


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """These variables, for this process and those it starts; afterwards as before."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def sizes(config: ServeConfig) -> tuple[DeploymentConfig, ...]:
    """Of every deployment there will be: the ingress, and each group."""
    return (config.ingress, *config.groups.values())


def fitted(config: ServeConfig, cpus: float) -> ServeConfig:
    """The configuration with CPU reservations that fit into `cpus` even when everything has scaled out."""
    asked = sum(size.num_cpus * size.autoscaling.max_replicas for size in sizes(config))
    if asked <= cpus:
        return config
    share = cpus / asked

    def smaller(size: T) -> T:
        return size.model_copy(update={"num_cpus": int(size.num_cpus * share * 1e3) / 1e3})

    groups = {name: smaller(group) for name, group in config.groups.items()}
    return config.model_copy(update={"ingress": smaller(config.ingress), "groups": groups})
