"""Serves with replicas in which a bundle below a folder named `faulty` fails some of its requests, and every
bundle those of one user, until the input ends. `test_rollout.py` starts it.

The fault is injected where a bundle's engine is loaded, so everything round it is what `marquee serve` runs.
Prints one line of JSON when it answers: {"url": …}.
"""

import json
import random
import sys
from dataclasses import fields
from pathlib import Path

import serving.local.deployer
from serving.config import ServeConfig
from serving.deployments.ingress import Ingress
from serving.engine import Engine
from serving.errors import Unavailable
from serving.pipeline import Pipeline
from serving.settings import Settings
from serving.types import Query, Recommendation

FAULTY = "faulty"
FAILED = 0.05
"""Share of the recommendations that fail."""


DEFECT = "meets-a-defect"
"""The user for whom every bundle raises what nobody expects."""


class FailingPipeline(Pipeline):
    async def run(self, query: Query) -> Recommendation:
        if query.user_id == DEFECT:
            raise LookupError("injected defect")
        return await super().run(query)


class OftenFailingPipeline(FailingPipeline):
    async def run(self, query: Query) -> Recommendation:
        if random.random() < FAILED:
            raise Unavailable("injected")
        return await super().run(query)


class FaultyIngress(Ingress):
    async def _load(self, url: str) -> Engine:
        engine = await super()._load(url)
        failing = OftenFailingPipeline if FAULTY in Path(url).parts else FailingPipeline
        whole = engine.recommend
        parts = {each.name: getattr(whole, each.name) for each in fields(whole)}
        return engine.with_pipeline("recommend", failing(**parts))


def main(bundle: str, home: str, redis_url: str, port: str) -> None:
    from serving.local.runtime import running

    settings = Settings(port=int(port), home=Path(home), redis_url=redis_url)
    with running(ServeConfig(bundle=bundle), settings) as run:
        print(json.dumps({"url": run.url}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    serving.local.deployer.MODULE = "tests.e2e.faulty_deploying"
    main(*sys.argv[1:])
