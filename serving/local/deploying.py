"""What of a local run needs a bundle, Ray or Serve in memory: a program of its own, which ends when that is
done. Ray and what was deployed stay; `marquee serve`, which keeps them, is then a small process.

Obeys lines of JSON, {"step": …, and what it takes}, and answers each with one: {"value": …}, {"failed": why},
or {"broken": traceback}. Does not belong here: in which order, and what the user sees (`local.runtime`).
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from features.marker import materialized
from features.redis_address import RedisUrlError
from features.store import OnlineStoreError
from serving.config import ServeConfig
from serving.local.deployer import StartFailed
from serving.local.ray_settings import ANSWER_S, LOGICAL_CPUS, QUIET, sizes
from training.bundle import read_bundle
from training.manifest import BundleError
from training.ray_session import lasting_ray

APP = "marquee"

_RAISED = re.compile(r"[\w.]+(Error|Exception|Failed)\b.*: .+")
"""The line of a traceback that says what was raised."""


def check(config: dict[str, Any], redis_url: str) -> None:
    """Looks at what a replica would refuse, before Ray is started for nothing.

    Raises:
        OnlineStoreError: Redis cannot be used.
        StartFailed: it holds no features.
        BundleError: the bundle is missing, half-written or altered, or does not fit the features.
    """
    online = materialized(redis_url)
    if online is None:
        raise StartFailed("Redis holds no features; run `marquee features` first")
    read_bundle(ServeConfig.model_validate(config).bundle, fingerprint=online.partition(":")[0])


def start_ray(folder: str, port: int, num_gpus: int | None) -> list[int]:
    """Ids of the processes that have all others of Ray below them, or will.

    Raises:
        StartFailed: Ray gave up, as on a machine that is too busy for its deadlines.
    """
    try:
        return lasting_ray(Path(folder), port, num_cpus=LOGICAL_CPUS, num_gpus=num_gpus)
    except Exception as error:  # Ray raises no narrower one for a node that was slow
        why = " ".join(str(error).split()) or type(error).__name__
        raise StartFailed(f"Ray did not start: {why} End what else runs here, and try again") from error


def start_serve(address: str, config: dict[str, Any], host: str, port: int) -> None:
    """Proxies first, then replicas: side by side is a few seconds faster, but on two busy cores the proxy
    then takes longer than Serve waits for it.

    Raises:
        StartFailed: the configuration asks for GPUs that are not there.
    """
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions

    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(
        proxy_location="HeadOnly",
        http_options=HTTPOptions(host=host, port=port, request_timeout_s=ANSWER_S),
        logging_config=QUIET,
    )
    _check_gpus(ServeConfig.model_validate(config))


def deploy(config: dict[str, Any]) -> None:
    """Returns when the application answers.

    Raises:
        StartFailed: Serve gave up.
    """
    from ray import serve

    from serving.app import build

    try:
        serve.run(build(config), name=APP, route_prefix="/", logging_config=QUIET)
    except RuntimeError as error:
        raise StartFailed(f"the application did not start: {_cause(error)}") from None


STEPS: Mapping[str, Callable[..., Any]] = {
    step.__name__: step for step in (check, start_ray, start_serve, deploy)
}

_EXPECTED = (StartFailed, OnlineStoreError, RedisUrlError, BundleError)
"""Whose text is one line that says what to do."""


def _check_gpus(config: ServeConfig) -> None:
    """Raises StartFailed where Serve would wait for GPUs that are not there."""
    import ray

    asked = sum(size.num_gpus * size.autoscaling.min_replicas for size in sizes(config))
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


def obey(line: str) -> dict[str, Any]:
    """The answer to one line."""
    asked = json.loads(line)
    try:
        return {"value": STEPS[asked.pop("step")](**asked)}
    except _EXPECTED as error:
        return {"failed": str(error)}
    except Exception:
        return {"broken": traceback.format_exc()}


def _answers() -> IO[str]:
    """Standard output, for answers alone: what anything prints goes to standard error from now on."""
    ours = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return ours


def main() -> None:
    answers = _answers()
    with suppress(BrokenPipeError):  # who asked is gone
        for line in sys.stdin:
            answers.write(json.dumps(obey(line)) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
