"""Two Ray nodes on one machine, each with one logical GPU, driven line by line through standard input.

    replicas          print how many replicas the group of retrieval and ranking has: one to two, a GPU each
    spread            serve fused instead, two replicas, each of which wants a GPU: one on each node
    kill              kill the second node and everything that runs on it

Each command answers with one line of JSON. A process of its own, as Ray reads its settings once.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from serving.config import (
    Autoscaling,
    CacheConfig,
    GroupConfig,
    IngressConfig,
    ServeConfig,
)
from serving.runtime_options import RuntimeName, RuntimeOptions, TorchOptions

ACCELERATED = "accelerated"
"""The group of retrieval and ranking, and so its deployment."""

STARTED_S = 60.0
"""Seconds for a node to join, or for replicas to run."""

STEADY = 0.05
"""Calls of the group at a time, on average, from which a second replica is wanted. A dozen people who ask
without a pause share one, and their ingress computes for longer than it lasts: 0.25 was at the limit."""

ON_CPU = RuntimeOptions(torch=TorchOptions(device="cpu"))
"""The GPUs are declared, not there."""

QUICK = {"upscale_delay_s": 1.0, "downscale_delay_s": 3.0}
"""Seconds of sustained load before replicas are added or removed: a test does not wait two minutes."""


def grouped(bundle: str) -> ServeConfig:
    scaling = Autoscaling(min_replicas=1, max_replicas=2, target_ongoing_requests=STEADY, **QUICK)
    return ServeConfig(
        bundle=bundle,
        cache=CacheConfig(items=0),
        ingress=IngressConfig(num_cpus=0),
        groups={
            ACCELERATED: GroupConfig(
                stages=("retrieval", "ranking"),
                runtime=RuntimeName.TORCH,
                num_cpus=0,
                num_gpus=1,
                autoscaling=scaling,
            )
        },
        runtimes=ON_CPU,
    )


def spread(bundle: str) -> ServeConfig:
    """A GPU each, so that no node can hold both replicas."""
    both = Autoscaling(min_replicas=2, max_replicas=2)
    ingress = IngressConfig(runtime=RuntimeName.TORCH, num_cpus=0, num_gpus=1, autoscaling=both)
    return ServeConfig(bundle=bundle, ingress=ingress, runtimes=ON_CPU)


def running_replicas(deployment: str) -> int:
    from ray import serve

    status = serve.status().applications["marquee"].deployments[deployment]
    return status.replica_states.get("RUNNING", 0)


def until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + STARTED_S
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} took more than {STARTED_S:g} s")
        time.sleep(0.2)


@contextmanager
def second_node() -> Iterator[subprocess.Popen[bytes]]:
    import ray

    command = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--address",
        ray.get_runtime_context().gcs_address,
        "--block",
    ]
    command += ["--num-cpus", "2", "--num-gpus", "1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as node:
        try:
            until(lambda: sum(each["Alive"] for each in ray.nodes()) == 2, "the second node")
            yield node
        finally:
            kill(node)


def kill(node: subprocess.Popen[bytes]) -> None:
    """As when a machine loses power: nothing gets to say goodbye."""
    if node.poll() is not None:
        return
    parent = psutil.Process(node.pid)
    for process in [parent, *parent.children(recursive=True)]:
        process.kill()


def main(bundle: str, home: str, redis_url: str, port: str) -> None:
    from serving.local.runtime import running
    from serving.settings import Settings
    from training.ray_session import joined_ray

    settings = Settings(port=int(port), home=Path(home), redis_url=redis_url)
    with (
        running(grouped(bundle), settings, num_gpus=1) as run,
        joined_ray(run.ray_address),
        second_node() as node,
    ):
        print(json.dumps({"url": run.url}), flush=True)
        for line in sys.stdin:
            # In one piece: Ray prints what its workers say from a thread of its own.
            print(json.dumps(obey(line.strip(), bundle, node)) + "\n", end="", flush=True)


def obey(command: str, bundle: str, node: subprocess.Popen[bytes]) -> dict[str, object]:
    match command:
        case "replicas":
            return {ACCELERATED: running_replicas(ACCELERATED)}
        case "spread":
            import ray
            from ray import serve

            from serving.app import build

            serve.run(build(spread(bundle)), name="marquee", route_prefix="/")
            until(lambda: running_replicas("Ingress") == 2, "two replicas")
            alive = {each["NodeID"] for each in ray.nodes() if each["Alive"]}
            return {"replicas": running_replicas("Ingress"), "nodes": len(alive)}
        case "kill":
            kill(node)
            return {"killed": node.pid}
    raise ValueError(command)


if __name__ == "__main__":
    main(*sys.argv[1:])
