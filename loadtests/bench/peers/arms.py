"""Which servers there are, how each is started, and how the others are held still while one is measured.

Ray Serve uses some CPU even when nobody asks (about 7 % of a core for a cluster), so idle arms are suspended.
Does not belong here: load and figures.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from loadtests.bench import processes
from loadtests.bench.peers.environments import ROOT, NoEnvironment, environment
from loadtests.bench.peers.fastapi_app import BATCHED
from loadtests.bench.peers.host import PATH, patient
from serving.config import GroupConfig, ServeConfig

FUSED, APART = "Marquee", "Marquee, retrieval and ranking apart"
FASTAPI, FASTAPI_BATCHED = "FastAPI", "FastAPI + Marquee's batching"
LITSERVE, BENTOML = "LitServe, batching", "BentoML"

READY_S = 180.0
"""Seconds to become ready: on two busy cores Ray Serve has taken over a minute."""

SUSPENDED_S = 3_600.0
"""Seconds that an arm may be suspended while others are measured, before watchdogs of its own end it."""

SUSPENDED = {
    "RAY_health_check_timeout_ms": str(int(SUSPENDED_S * 1e3)),
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": str(SUSPENDED_S),
}
"""The same for Ray's nodes, and for the actor that minds HAProxy: by default it is killed after 30 s."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A server to start: its command, and the port of 127.0.0.1 that it answers on."""

    name: str
    port: int
    command: tuple[str | Path, ...]
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Running:
    """A started arm. `url` is that of the recommendations, `pid` that of its first process."""

    name: str
    url: str
    pid: int

    def suspend(self) -> None:
        for process in processes.tree(self.pid):
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def resume(self) -> None:
        for process in processes.tree(self.pid):
            with suppress(psutil.NoSuchProcess):
                process.resume()


@contextmanager
def started(arm: Arm) -> Iterator[Running]:
    """The arm until the block is left.

    Raises:
        processes.ServerFailed: it did not become ready.
    """
    origin = f"http://127.0.0.1:{arm.port}"
    with processes.serving(arm.command, arm.env, f"{origin}/readyz", READY_S) as served:
        running = Running(arm.name, f"{origin}{PATH}", served.pid)
        try:
            yield running
        finally:
            running.resume()  # what is suspended cannot be stopped in order


class Arms:
    """Makes each arm for one bundle and one Redis."""

    def __init__(self, bundle: Path, work: Path, redis_url: str, ports: Sequence[int]) -> None:
        """Args:
        work: an empty folder.
        ports: free ones, one for every arm.
        """
        self._bundle, self._work, self._ports = bundle, work, iter(ports)
        self._env = {
            "REDIS_URL": redis_url,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "MARQUEE_HOME": str(work / "marquee"),
            **SUSPENDED,
        }

    def fused(self) -> Arm:
        return self._marquee(FUSED, patient(str(self._bundle)))

    def apart(self) -> Arm:
        groups = {"accelerated": GroupConfig(stages=("retrieval", "ranking"))}
        return self._marquee(APART, patient(str(self._bundle)).model_copy(update={"groups": groups}))

    def fastapi(self) -> Arm:
        return self._peer(FASTAPI, "fastapi_app")

    def fastapi_batched(self) -> Arm:
        return self._peer(FASTAPI_BATCHED, "fastapi_app", more={BATCHED: "1"})

    def litserve(self) -> Arm:
        if importlib.util.find_spec("litserve") is None:
            raise NoEnvironment("litserve is not installed: pip install '.[bench]'")
        return self._peer(LITSERVE, "litserve_app")

    def bentoml(self) -> Arm:
        """Makes its environment where it is missing."""
        return self._peer(BENTOML, "bentoml_app", environment("bentoml", make=True))

    def _peer(
        self,
        name: str,
        module: str,
        python: str | Path = sys.executable,
        more: Mapping[str, str] | None = None,
    ) -> Arm:
        port = next(self._ports)
        options = ("--bundle", self._bundle, "--port", str(port))
        command = (python, "-m", f"loadtests.bench.peers.{module}", *options)
        return Arm(name, port, command, {**self._env, **(more or {})})

    def _marquee(self, name: str, config: ServeConfig) -> Arm:
        """What `marquee serve` runs."""
        port = next(self._ports)
        file = self._work / f"serve-{port}.json"
        file.write_text(json.dumps(_surviving(config).model_dump(mode="json")), encoding="utf-8")
        command = (sys.executable, "-m", "marquee", "serve", "--config", file, "--port", str(port))
        return Arm(name, port, command, self._env)


def _surviving(config: ServeConfig) -> ServeConfig:
    """With health checks that suspension does not fail."""
    patience = {"health_check_timeout_s": SUSPENDED_S}
    groups = {name: group.model_copy(update=patience) for name, group in config.groups.items()}
    return config.model_copy(update={"ingress": config.ingress.model_copy(update=patience), "groups": groups})
