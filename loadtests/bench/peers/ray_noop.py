"""A Ray Serve application that does nothing, under the settings Marquee runs with: the unit in which hops and
HTTP overhead are counted. An ASGI ingress like Marquee's, one FastAPI route, a small constant answer.
"""

from __future__ import annotations

import logging
import secrets
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fastapi import FastAPI

from loadtests.bench.peers.host import PATH, Options, patient
from serving.guard import RUN_ID, Guard
from serving.ports import free_block
from serving.runtime import ANSWER_S, LOGICAL_CPUS, OBJECT_STORE_BYTES, QUIET, environment, ray_environment


class Noop:
    """The ingress replica."""

    def __serve_build_asgi_app__(self) -> FastAPI:
        app = FastAPI()

        @app.post(PATH)
        async def nothing() -> dict[str, str]:
            return {"status": "ok"}

        @app.get("/readyz")
        async def ready() -> dict[str, str]:
            return {"status": "ready"}

        return app


@contextmanager
def running(port: int, replicas: int) -> Iterator[None]:
    """As `serving.runtime.running`, without a bundle and without Redis."""
    with ExitStack() as stack:
        folder, tag = Path(tempfile.mkdtemp(prefix="mq", dir="/tmp")), secrets.token_hex(8)
        stack.callback(Guard(tag, folder).release)
        stack.enter_context(environment({RUN_ID: tag, **ray_environment(folder, free_block())}))
        import ray  # reads its settings when imported

        ray.init(
            address="local",
            num_cpus=LOGICAL_CPUS,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=str(folder / "r"),
        )
        stack.callback(ray.shutdown)
        _deploy(port, replicas)
        yield


def _deploy(port: int, replicas: int) -> None:
    from ray import serve
    from ray.serve.config import HTTPOptions

    from serving.app import options

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(
        proxy_location="HeadOnly",
        http_options=HTTPOptions(host="127.0.0.1", port=port, request_timeout_s=ANSWER_S),
        logging_config=QUIET,
    )
    sizes = options(patient("none").deployments.ingress)
    del sizes["autoscaling_config"]
    sizes["ray_actor_options"] = {"num_cpus": LOGICAL_CPUS / 2 / replicas}
    deployment = serve.deployment(**sizes, num_replicas=replicas)(serve.ingress()(Noop))
    serve.run(deployment.bind(), route_prefix="/", logging_config=QUIET)


def main() -> None:
    options = Options.read("A Ray Serve application that does nothing.")
    stop = threading.Event()
    for which in (signal.SIGINT, signal.SIGTERM):
        signal.signal(which, lambda *_: stop.set())
    with running(options.port, options.workers):
        stop.wait()


if __name__ == "__main__":
    main()
