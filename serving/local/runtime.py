"""One run on this machine: Redis, Ray and Serve started in order, and nothing of them left at the end.

A run has its own short folder, ports and token, so that runs stand side by side; only PORT is given. Ray and
Serve are used by a process that ends once the run has started (`local.deploying`); this one keeps the run,
and is small. Ray reads its settings when it is imported, so only what is imported in the block may join it.

Does not belong here: what the user sees (`serving.cli`), and clusters that exist already.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from features import embedded
from serving.config import ServeConfig, Traffic
from serving.console import shown
from serving.local.deployer import Deployer, StartFailed, adopt_orphans, ended
from serving.local.guard import RUN_ID, Guard
from serving.local.ports import check_port, free_block
from serving.local.ray_settings import LOGICAL_CPUS, environment, fitted, ray_environment, ray_port
from serving.settings import Settings
from serving.traffic.traffic_file import TrafficFile


@dataclass(frozen=True, slots=True)
class Running:
    """Attributes:
    url: where it answers.
    folder: the run's own files, logs included; gone when it ends.
    ray_address: where its Ray is joined.
    redis_url: where its features are; with a password, if it has one.
    """

    url: str
    folder: Path
    ray_address: str
    redis_url: str = field(repr=False)


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
        StartFailed: Redis holds no features, the bundle cannot be used, or the application did not start.
    """
    check_port(settings)
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="mq", dir="/tmp"))  # short: sockets' paths end at 107 bytes
        tag = secrets.token_hex(8)
        guard = Guard(tag, folder)
        stack.callback(guard.release)
        stack.enter_context(environment({RUN_ID: tag, "MARQUEE_HOME": str(settings.home.resolve())}))
        progress("Starting Redis" if settings.redis_url is None else "Connecting to Redis")
        redis_url = stack.enter_context(embedded.redis_url(settings.home / "redis", settings.redis_url))
        ports = free_block(beside=settings.port)
        file = TrafficFile(folder / "traffic.json")
        file.write(Traffic.of(config.bundle))
        lines = folder / "console"
        stack.enter_context(shown(lines, sys.stderr))
        ours = {
            "REDIS_URL": redis_url,
            "MARQUEE_TRAFFIC_FILE": str(file.path),
            "MARQUEE_LOG_SOCKET": str(lines),
        }
        stack.enter_context(environment(ours | ray_environment(folder, ports)))
        adopt_orphans()
        with Deployer() as deployer:
            progress("Checking the bundle")
            deployer.ask("check", config=config.model_dump(mode="json"), redis_url=redis_url)
            write_admin_token(settings)
            progress("Starting Ray")
            port = ray_port(ports)
            started = deployer.ask("start_ray", folder=str(folder / "r"), port=port, num_gpus=num_gpus)
            stack.enter_context(ended(started))
            address, config = f"127.0.0.1:{port}", fitted(config, LOGICAL_CPUS)
            _start(deployer, address, config, settings, progress)
        yield Running(settings.url, folder, address, redis_url)


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


def _start(
    deployer: Deployer, address: str, config: ServeConfig, settings: Settings, progress: Callable[[str], None]
) -> None:
    given = config.model_dump(mode="json")
    progress("Starting Ray Serve")
    deployer.ask("start_serve", address=address, config=given, host=settings.host, port=settings.port)
    progress("Loading the bundle")
    deployer.ask("deploy", config=given)
