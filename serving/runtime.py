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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from features import embedded
from features.marker import materialized
from serving.config import ServeConfig, Traffic
from serving.guard import RUN_ID, Guard
from serving.local_ray import ANSWER_S, LOGICAL_CPUS, QUIET, environment, fitted, placed, ray_environment
from serving.ports import check_port, free_block
from serving.settings import Settings
from serving.wanted import WantedTraffic
from training.bundle import read_bundle
from training.ray_session import own_ray

log = logging.getLogger(__name__)

APP = "marquee"

FOLLOW_S = 0.25
"""Seconds between two looks at the wanted traffic: reading it takes 0.1 ms, loading a bundle seconds."""

_RAISED = re.compile(r"[\w.]+(Error|Exception|Failed)\b.*: .+")
"""The line of a traceback that says what was raised."""


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
        ports = free_block(beside=settings.port)
        stack.enter_context(environment({"REDIS_URL": redis_url, **ray_environment(folder, ports)}))
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

    asked = sum(size.num_gpus * size.autoscaling.min_replicas for size in placed(config).values())
    there = ray.cluster_resources().get("GPU", 0)  # type: ignore[no-untyped-call]  # Ray has no types for it
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
