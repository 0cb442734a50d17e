"""One run on this machine: Redis, Ray and Serve started in order, and nothing of them left at the end.

A run has its own short folder, ports and token, so that runs stand side by side; only PORT is given. Ray
reads its settings when it is imported, so it is imported in here, and a process makes one run only.

Does not belong here: what the user sees (`serving.cli`), and clusters that exist already.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from features import embedded
from features.marker import materialized
from serving.config import DeploymentConfig, Placement, ServeConfig, Traffic
from serving.guard import RUN_ID, Guard
from serving.ports import check_port, free_block
from serving.settings import Settings
from serving.wanted import WantedTraffic
from training.bundle import read_bundle
from training.ray_session import own_ray

log = logging.getLogger(__name__)

APP = "marquee"

LOGICAL_CPUS = 2
"""CPUs declared to Ray. On one machine they only decide placement, so reservations are scaled down to fit;
Ray also starts this many workers in advance, and each costs a second of CPU."""

QUIET = {"enable_access_log": False, "log_level": "WARNING"}
"""Serve's own logs: what it says of every request is in our metrics."""

FOLLOW_S = 0.25
"""Seconds between two looks at the wanted traffic: reading it takes 0.1 ms, loading a bundle seconds."""

_RAISED = re.compile(r"[\w.]+(Error|Exception|Failed)\b.*: .+")
"""The line of a traceback that says what was raised."""

ANSWER_S = 30.0
"""Seconds after which Serve gives up a request: above the application's deadlines, so it answers first."""


class StartFailed(Exception):
    """The run did not start; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Running:
    """Attributes:
    url: where it answers.
    folder: the run's own files, logs included; gone when it ends.
    """

    url: str
    folder: Path


@contextmanager
def running(
    config: ServeConfig,
    settings: Settings,
    *,
    num_gpus: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[Running]:
    """Serves `config` until the block is left; it answers when the block is entered.

    Args:
        num_gpus: GPUs declared to Ray; None counts those of the machine.
        progress: told what happens now.

    Raises:
        SettingError: PORT is taken, or HOST is not an address of this machine.
        EmbeddedRedisError: the embedded server does not start.
        OnlineStoreError, BundleError: see `check_contents`.
        StartFailed: Redis holds no features, or the application did not start.
    """
    if "ray.serve" in sys.modules:
        raise RuntimeError("Ray Serve was imported before its settings were made")
    check_port(settings)
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="mq", dir="/tmp"))  # short: sockets' paths end at 107 bytes
        tag = secrets.token_hex(8)
        guard = Guard(tag, folder)
        stack.callback(guard.release)
        stack.enter_context(environment({RUN_ID: tag, "MARQUEE_HOME": str(settings.home.resolve())}))
        progress("Starting Redis" if settings.redis_url is None else "Connecting to Redis")
        redis_url = stack.enter_context(embedded.redis_url(settings.home / "redis", settings.redis_url))
        progress("Checking the bundle")
        check_contents(config, redis_url)
        stack.enter_context(environment({"REDIS_URL": redis_url, **ray_environment(folder, free_block())}))
        write_admin_token(settings)
        wanted = WantedTraffic(folder / "traffic.json")
        wanted.write(Traffic.of(config.bundle))
        stack.enter_context(environment({"MARQUEE_TRAFFIC_FILE": str(wanted.path)}))
        progress("Starting Ray")
        stack.enter_context(own_ray(folder / "r", num_cpus=LOGICAL_CPUS, num_gpus=num_gpus))
        config = fitted(config, LOGICAL_CPUS)
        _start(config, settings, progress)
        stack.enter_context(_following(wanted, config))
        yield Running(settings.url, folder)


def write_admin_token(settings: Settings) -> None:
    """Leaves a token for the admin endpoints of this and later runs, which its owner alone can read; unless
    there is one, or the environment names another.

    Raises:
        StartFailed: the file cannot be written, or others can read the one that is there.
    """
    if settings.admin_token is not None:
        return
    file = settings.admin_token_file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with (
            suppress(FileExistsError),
            open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as made,
        ):
            made.write(secrets.token_urlsafe(32) + "\n")
        mode = file.stat().st_mode
    except OSError as error:
        raise StartFailed(f"{file} cannot be written ({error.strerror}); set MARQUEE_ADMIN_TOKEN") from None
    if mode & 0o077:
        raise StartFailed(f"{file} can be read by others; remove it and a new token is made")


def ray_environment(folder: Path, ports: range) -> dict[str, str]:
    """What Ray and its HAProxy read: the throughput settings, files in the run's folder, the run's ports, and
    a token without which nobody else on the machine may use this Ray."""
    haproxy, metrics = folder / "h", folder / "metrics"
    haproxy.mkdir()
    metrics.mkdir()
    named, http, grpc = ports[:4], ports[4:14], ports[14:]
    return {
        "MARQUEE_METRICS_DIR": str(metrics),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_worker_niceness": "0",  # by default 15: replicas would starve beside any busy process
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


def _placed(config: ServeConfig) -> dict[str, DeploymentConfig]:
    """The deployments there will be: the ingress, and the stages that are placed apart."""
    apart = {stage for stage, where in config.placement.model_dump().items() if where is Placement.DEPLOYMENT}
    return {stage: getattr(config.deployments, stage) for stage in ("ingress", *sorted(apart))}


def fitted(config: ServeConfig, cpus: float) -> ServeConfig:
    """The configuration with CPU reservations that fit into `cpus` even when every stage has scaled out."""
    each = _placed(config)
    asked = sum(size.num_cpus * size.autoscaling.max_replicas for size in each.values())
    if asked <= cpus:
        return config
    share = cpus / asked
    smaller = {
        stage: size.model_copy(update={"num_cpus": int(size.num_cpus * share * 1e3) / 1e3})
        for stage, size in each.items()
    }
    return config.model_copy(update={"deployments": config.deployments.model_copy(update=smaller)})


def check_contents(config: ServeConfig, redis_url: str) -> None:
    """Looks at what a replica would refuse, before Ray is started for nothing.

    Raises:
        OnlineStoreError: Redis cannot be used.
        StartFailed: it holds no features.
        BundleError: the bundle is missing, half-written or altered, or does not fit the features.
    """
    online = materialized(redis_url)
    if online is None:
        raise StartFailed("Redis holds no features; run `marquee features` first")
    read_bundle(config.bundle, fingerprint=online.partition(":")[0])


def _start(config: ServeConfig, settings: Settings, progress: Callable[[str], None]) -> None:
    """Proxies first, then replicas: side by side is a few seconds faster, but on two busy cores the proxy
    then takes longer than Serve waits for it."""
    progress("Starting Ray Serve")
    from ray import serve
    from ray.serve.config import HTTPOptions

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(
        proxy_location="HeadOnly",
        http_options=HTTPOptions(host=settings.host, port=settings.port, request_timeout_s=ANSWER_S),
        logging_config=QUIET,
    )
    _check_gpus(config)
    progress("Loading the bundle")
    try:
        _deploy(config, Traffic.of(config.bundle))
    except RuntimeError as error:
        raise StartFailed(f"the application did not start: {_cause(error)}") from None


def _deploy(config: ServeConfig, traffic: Traffic) -> None:
    """Raises RuntimeError where Serve gives up."""
    from ray import serve

    from serving.app import application

    serve.run(application(config, traffic), name=APP, route_prefix="/", logging_config=QUIET)


@contextmanager
def _following(wanted: WantedTraffic, config: ServeConfig) -> Iterator[None]:
    """Deploys what is wanted whenever it changes; Serve reconfigures every replica in place, and starts later
    ones with it."""
    over = threading.Event()

    def follow() -> None:
        deployed = Traffic.of(config.bundle)
        while not over.wait(FOLLOW_S):
            try:
                if (traffic := wanted.read()) != deployed:
                    deployed = traffic
                    _deploy(config, traffic)
            except Exception:
                log.exception("the traffic was not changed")

    follower = threading.Thread(target=follow, name="traffic", daemon=True)
    follower.start()
    try:
        yield
    finally:
        over.set()
        follower.join(ANSWER_S)


def _check_gpus(config: ServeConfig) -> None:
    """Raises StartFailed where Serve would wait for GPUs that are not there."""
    import ray

    asked = sum(size.num_gpus * size.autoscaling.min_replicas for size in _placed(config).values())
    there = ray.cluster_resources().get("GPU", 0)  # type: ignore[no-untyped-call]
    if asked > there:
        raise StartFailed(
            f"the configuration asks for {asked:g} GPUs and there are {there:g}; lower num_gpus"
        )


def _cause(error: RuntimeError) -> str:
    """What a replica raised, from the traceback that Serve keeps of it; else Serve's own words."""
    from ray import serve

    for application in serve.status().applications.values():
        for name, deployment in application.deployments.items():
            raised = [line for line in deployment.message.splitlines() if _RAISED.match(line)]
            if raised:
                return f"{name}: {raised[-1]}"
    return str(error)
