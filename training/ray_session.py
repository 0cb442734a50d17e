"""Where Ray comes from: one of this process's own, one that outlives it, or a cluster that runs already.

Does not belong here: what runs on it, and its settings and token, which Ray reads from the environment.
"""

from __future__ import annotations

import io
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import psutil

OBJECT_STORE_BYTES = 100 << 20
"""Ray's shared memory. Nothing large of ours goes there: a few kB cross between replicas, and the inputs and
checkpoints of a training are files. Ray's default takes 30 % of memory."""

HERE = "local"
"""What Ray understands under RAY_ADDRESS as "none", beside an empty one."""

REACHED_S = 10.0
"""Seconds for a cluster's head to accept a connection; Ray itself would try for a quarter of an hour."""

STARTS = 2
"""Times that a Ray of our own is started: it gives its node 30 s, a constant of its code, and on a busy
machine its agents alone have taken as long. The second start finds its files read."""

ENDED_S = 5.0
"""Seconds for the processes of a start that failed to be gone."""

ANY_FREE = ("min-worker-port", "max-worker-port", "dashboard-port", "dashboard-agent-listen-port")
"""Ports that `ray start` would choose the same for every Ray of a machine."""

TRIES = 3
"""Times that Ray asks a head that does accept: a wrong token or another protocol does not become right by the
20 of its default."""


@contextmanager
def own_ray(folder: Path, *, num_cpus: int, num_gpus: int | None = None) -> Iterator[None]:
    """A Ray on this machine, gone with all its processes when the block is left.

    Args:
        folder: for its files; a short path, as those of sockets end at 107 bytes.
        num_gpus: None counts the machine's.

    Raises:
        Exception: Ray's own, of the last of `STARTS` that failed.
    """
    _prefer_our_niceness()
    import ray

    try:
        _start(
            lambda: ray.init(
                address="local",
                num_cpus=num_cpus,
                num_gpus=num_gpus,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=str(folder),
            )
        )
        yield
    finally:
        ray.shutdown()


def lasting_ray(folder: Path, port: int, *, num_cpus: int, num_gpus: int | None = None) -> list[int]:
    """Starts a Ray on this machine that outlives this process: ids of its processes, which have others below.

    As `ray start` does, and not `ray.init`, which starts a log monitor and an autoscaler besides: 100 MB.

    Args:
        folder: for its files; a short path, as those of sockets end at 107 bytes.
        port: a free one, at which it can be joined; the other ports are any that are free.
        num_gpus: None counts the machine's.

    Raises:
        Exception: Ray's own, of the last of `STARTS` that failed.
    """
    _prefer_our_niceness()
    from ray.scripts.scripts import start

    options = [
        "--head",
        "--disable-usage-stats",
        "--no-monitor",
        "--include-log-monitor=False",
        "--include-dashboard=False",
        *(f"--{name}=0" for name in ANY_FREE),
        f"--port={port}",
        f"--temp-dir={folder}",
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        f"--num-cpus={num_cpus}",
        *([] if num_gpus is None else [f"--num-gpus={num_gpus}"]),
    ]

    def begin() -> None:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # what to do next
            start.main(options, standalone_mode=False)

    os.environ["RAY_START_HOOK"] = f"{__name__}.{without_client_server.__name__}"
    try:
        _start(begin)
    finally:
        del os.environ["RAY_START_HOOK"]
    return [child.pid for child in psutil.Process().children()]


def without_client_server(parameters: Any, _: bool) -> None:
    """What Ray calls with the parameters of a start, as there is no option for it. The server is for clients
    that do not run on the cluster, and takes 60 MB."""
    parameters.ray_client_server_port = None


def _prefer_our_niceness() -> None:
    os.environ.setdefault("RAY_worker_niceness", "0")  # by default 15: starves beside any busy process


def _start(begin: Callable[[], object]) -> None:
    for starts_left in reversed(range(STARTS)):
        try:
            with _nothing_left_by_failure():
                begin()
            return
        except Exception:  # Ray raises no narrower one for a node that was slow
            if not starts_left:
                raise


@contextmanager
def _nothing_left_by_failure() -> Iterator[None]:
    """Ends what the block started if it fails: Ray keeps the processes of a half-started node for good."""
    here = psutil.Process()
    before = set(here.children(recursive=True))
    try:
        yield
    except Exception:
        started = set(here.children(recursive=True)) - before
        for process in started:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(started, ENDED_S)
        raise


def cluster_address() -> str | None:
    """Of the cluster that RAY_ADDRESS names, as Ray's job submission sets it; None: there is none to join."""
    address = os.environ.get("RAY_ADDRESS", "")
    return None if address in ("", HERE) else address


@contextmanager
def joined_ray(address: str) -> Iterator[None]:
    """A cluster that runs on this machine and maybe on others; it is there afterwards as before.

    Args:
        address: host:port of its head, or "auto".

    Raises:
        ValueError: it is something else: a URL names a dashboard or a proxy.
        OSError: nobody answers there, or there is no node on this machine; and what else Ray raises.
    """
    if address != "auto":
        _reach(address)
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", str(TRIES))  # the name is older than Ray without Redis
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    host, _, port = address.rpartition(":")
    if "/" in host or not (host and port.isdecimal()):
        raise ValueError("it must be host:port of a cluster with a node here; `ray job submit` sets it")
    with socket.create_connection((host.strip("[]"), int(port)), REACHED_S):
        pass
