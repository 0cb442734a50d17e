"""Which servers there are, how each is started, and how the others are held still while one is measured.

Ray Serve uses some CPU even when nobody asks (about 7 % of a core for a cluster), so idle arms are suspended.
Does not belong here: load and figures.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil

from loadtests.bench import processes
from loadtests.bench.peers import ray_bare, triton_server
from loadtests.bench.peers.environments import ROOT, NoEnvironment, environment
from loadtests.bench.peers.host import PATH, patient
from serving.config import CacheConfig, Placement, PlacementConfig, ServeConfig
from training.bundle import read_bundle

FUSED, DISTRIBUTED, NOOP, CACHED = (
    "Marquee, fused",
    "Marquee, distributed",
    "Ray Serve no-op",
    "Marquee, cached",
)
FASTAPI, LITSERVE, BENTOML, TRITON = "FastAPI", "LitServe", "BentoML", "FastAPI + Triton"
BARE = "the pipeline in a bare Ray Serve application"
FASTAPI_TOGETHER = "FastAPI + Marquee's micro-batching"
LITSERVE_TOGETHER = "LitServe + its batching"

READY_S = 180.0
"""Seconds to become ready: on two busy cores Ray Serve has taken over a minute."""

MODULES = "loadtests.bench.peers"


SUSPENDED_S = 3_600.0
"""Seconds that an arm may be suspended while others are measured, before watchdogs of its own end it."""

SUSPENDED = {
    "RAY_health_check_timeout_ms": str(int(SUSPENDED_S * 1e3)),
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": str(SUSPENDED_S),
}
"""The same for Ray's nodes, and for the actor that minds HAProxy: by default it is killed after 30 s."""


@dataclass(frozen=True, slots=True)
class Program:
    """One process to start, and where it answers once it is ready."""

    command: tuple[str | Path, ...]
    env: Mapping[str, str]
    ready_url: str


@dataclass(frozen=True, slots=True)
class Arm:
    """Attributes:
    programs: in the order they are started; the last one answers.
    """

    name: str
    port: int
    programs: tuple[Program, ...]


@dataclass(frozen=True, slots=True)
class Running:
    """A started arm. `url` is that of the recommendations."""

    name: str
    url: str
    roots: tuple[int, ...]

    def suspend(self) -> None:
        for process in processes.tree(*self.roots):
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def resume(self) -> None:
        for process in processes.tree(*self.roots):
            with suppress(psutil.NoSuchProcess):
                process.resume()


@contextmanager
def started(arm: Arm) -> Iterator[Running]:
    """The arm's programs until the block is left.

    Raises:
        processes.ServerFailed: one did not become ready.
    """
    with ExitStack() as stack:
        roots = [
            stack.enter_context(
                processes.serving(program.command, dict(program.env), program.ready_url, READY_S)
            ).pid
            for program in arm.programs
        ]
        running = Running(arm.name, f"http://127.0.0.1:{arm.port}{PATH}", tuple(roots))
        stack.callback(running.resume)  # what is suspended cannot be stopped in order
        yield running


class Arms:
    """Makes each arm for one bundle, one Redis and a number of workers."""

    def __init__(self, bundle: Path, work: Path, redis_url: str, workers: int, ports: Sequence[int]) -> None:
        """Args:
        work: an empty folder.
        ports: free ones, two for every arm.
        """
        self._bundle, self._work, self._workers = bundle, work, workers
        self._ports = iter(ports)
        self._env = {
            "REDIS_URL": redis_url,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "MARQUEE_HOME": str(work / "marquee"),
            **SUSPENDED,
        }

    def marquee(self, name: str, config: ServeConfig) -> Arm:
        """What `marquee serve` runs."""
        file = self._work / f"{name.replace(' ', '-')}.json"
        file.write_text(json.dumps(self._replicated(config).model_dump(mode="json")), encoding="utf-8")
        port = next(self._ports)
        command = (sys.executable, "-m", "marquee", "serve", "--config", file, "--port", str(port))
        return Arm(name, port, (Program(command, self._env, _ready(port)),))

    def fused(self) -> Arm:
        return self.marquee(FUSED, patient(str(self._bundle)))

    def distributed(self) -> Arm:
        """As the chart's GPU profile places the stages: two hops, one after the other."""
        apart = PlacementConfig(retrieval=Placement.DEPLOYMENT, ranking=Placement.DEPLOYMENT)
        return self.marquee(DISTRIBUTED, patient(str(self._bundle)).model_copy(update={"placement": apart}))

    def cached(self) -> Arm:
        on = patient(str(self._bundle)).model_copy(update={"cache": CacheConfig()})
        return self.marquee(CACHED, on)

    def noop(self) -> Arm:
        return self._peer(NOOP, "ray_noop")

    def bare(self, bodies: Path) -> Arm:
        arm = self._peer(BARE, "ray_bare")
        program = arm.programs[0]
        asked = {**program.env, ray_bare.ASKED: str(bodies)}
        return replace(arm, programs=(replace(program, env=asked),))

    def fastapi(self) -> Arm:
        return self._peer(FASTAPI, "fastapi_app")

    def fastapi_together(self) -> Arm:
        return self._peer(FASTAPI_TOGETHER, "fastapi_together_app")

    def litserve(self) -> Arm:
        _needs("litserve")
        return self._peer(LITSERVE, "litserve_app")

    def litserve_together(self) -> Arm:
        _needs("litserve")
        return self._peer(LITSERVE_TOGETHER, "litserve_together_app")

    def bentoml(self, *, make: bool) -> Arm:
        return self._peer(BENTOML, "bentoml_app", environment("bentoml", make=make))

    def triton(self, *, make: bool) -> Arm:
        _needs("tritonclient")
        python, port = environment("triton", make=make), next(self._ports)
        repository = write_repository(self._bundle, self._work / "triton" / "models", self._workers)
        script = Path(triton_server.__file__)
        server = Program(
            (python, script, "--repository", repository, "--http", str(port)),
            {},
            f"http://127.0.0.1:{port}/v2/health/ready",
        )
        app = self._peer(TRITON, "triton_app")
        client = Program(
            app.programs[0].command,
            {**self._env, "TRITON": f"127.0.0.1:{port}"},
            app.programs[0].ready_url,
        )
        return Arm(TRITON, app.port, (server, client))

    def in_process(self, bodies: Path) -> Program:
        command = (
            sys.executable,
            "-m",
            f"{MODULES}.in_process",
            "--bundle",
            self._bundle,
            "--bodies",
            bodies,
        )
        return Program(command, self._env, "")

    def _peer(self, name: str, module: str, python: str | Path = sys.executable) -> Arm:
        port = next(self._ports)
        options = ("--bundle", self._bundle, "--port", str(port), "--workers", str(self._workers))
        return Arm(
            name, port, (Program((python, "-m", f"{MODULES}.{module}", *options), self._env, _ready(port)),)
        )

    def _replicated(self, config: ServeConfig) -> ServeConfig:
        """`workers` replicas of every deployment, no more and no fewer."""
        sizes = {}
        for stage in type(config.deployments).model_fields:
            size = getattr(config.deployments, stage)
            update = {"min_replicas": self._workers, "max_replicas": self._workers}
            autoscaling = size.autoscaling.model_copy(update=update)
            sizes[stage] = size.model_copy(
                update={"autoscaling": autoscaling, "health_check_timeout_s": SUSPENDED_S}
            )
        return config.model_copy(update={"deployments": config.deployments.model_copy(update=sizes)})


def write_repository(bundle: Path, repository: Path, instances: int) -> Path:
    """A Triton model repository with the bundle's ranker: its arrays and the code that adds them up."""
    component = read_bundle(str(bundle)).component("ranker")
    version = repository / triton_server.MODEL / "1"
    version.mkdir(parents=True)
    features = len(component.settings["names"])
    (version.parent / "config.pbtxt").write_text(triton_server.config(features, instances), encoding="utf-8")
    np.savez(version / "ranker.npz", allow_pickle=False, **component.arrays)
    (version / "settings.json").write_text(json.dumps({"bias": component.settings["bias"]}), encoding="utf-8")
    code = Path(triton_server.__file__).with_name("triton_model.py").read_text(encoding="utf-8")
    (version / "model.py").write_text(code, encoding="utf-8")
    return repository


def _needs(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise NoEnvironment(f"{package} is not installed: pip install '.[bench]'")


def _ready(port: int) -> str:
    return f"http://127.0.0.1:{port}/readyz"
