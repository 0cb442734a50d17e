"""Serves one bundle twice on one cluster, in groups and all in the ingress, until its input ends. A process
of its own, as Ray reads its settings once; `conftest.py` starts it.

Prints one line of JSON when both answer: {"url": …, "gpus_in_use": …, "metrics_folder": …, "ray_metrics": …}.
"""

import json
import os
import sys
from pathlib import Path

from serving.config import (
    Budgets,
    CacheConfig,
    GroupConfig,
    IngressConfig,
    ServeConfig,
    ShadowConfig,
)
from serving.local.runtime import running
from serving.runtime_options import RuntimeName, RuntimeOptions, TorchOptions
from serving.settings import Settings
from training.ray_session import joined_ray

GROUPS = {
    "retrieval": GroupConfig(stages=("retrieval",)),
    "accelerated": GroupConfig(stages=("ranking",), runtime=RuntimeName.TORCH, num_gpus=1),
    "after": GroupConfig(stages=("diversity", "explain")),
}
"""Retrieval is not beside ranking, so that a killed ranker takes nothing else along."""


def main(bundle: str, home: str, redis_url: str, port: str) -> None:
    # A kept answer would hide that a stage is gone; the fused application keeps answers. All sources are one
    # call here: while Ray starts a replica on a busy machine, it may take longer than the default gives them.
    config = ServeConfig(
        bundle=bundle,
        groups=GROUPS,
        runtimes=RuntimeOptions(torch=TorchOptions(device="cpu")),
        budgets=Budgets(source=2_000),
        cache=CacheConfig(items=0),
        shadow=ShadowConfig(share=1),
    )
    settings = Settings(port=int(port), home=Path(home), redis_url=redis_url)
    with running(config, settings, num_gpus=2) as run, joined_ray(run.ray_address):
        import ray
        from ray import serve

        from serving.app import build

        # Without a reservation: the first application's are scaled to all the CPUs there are.
        fused = ServeConfig(bundle=bundle, ingress=IngressConfig(num_cpus=0))
        serve.run(build(fused), name="fused", route_prefix="/fused")
        in_use = ray.cluster_resources()["GPU"] - ray.available_resources()["GPU"]
        [node] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray has no types for it
        started = {
            "url": run.url,
            "gpus_in_use": in_use,
            "metrics_folder": os.environ["MARQUEE_METRICS_DIR"],
            "ray_metrics": f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}",
        }
        print(json.dumps(started), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
