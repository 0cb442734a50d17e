"""`python -m tests.plugins.served HOME RECIPE`: trains a bundle of the data in HOME by the recipe, and
answers the same requests inline and with retrieval on a replica. A process of its own, which sees the
packages of its PYTHONPATH; prints one line of JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from features.memory_store import MemoryOnlineStore
from features.schema import FeatureSchema
from serving.build import compose
from serving.config import Budgets, CacheConfig, ServeConfig
from serving.engine import Engine
from serving.types import Query
from tests.serving.deployments.test_stage_client import apart
from training.bundle import read_bundle
from training.data.tables import Tables
from training.loop import Worker
from training.loop import train as fit
from training.recipe import read
from training.recipe_check import check
from training.train import train

PATIENT = Budgets(source=60_000, ranker=60_000, diversity=60_000, explainer=60_000, features=60_000)


def main(home: Path, recipe: Path) -> None:
    tables = Tables.read(home / "data")
    schema = FeatureSchema.infer(tables.interactions, tables.items, tables.users)
    made = read(recipe)
    check(made, recipe)
    directory = train(
        home,
        schema,
        inputs="plugins",
        recipe=made,
        fit=lambda inputs, schedule, _: fit(inputs, schedule, Worker(), None, lambda *_: None),
        said=lambda _: None,
    ).directory
    bundle = read_bundle(str(directory))
    config = ServeConfig(bundle=str(directory), budgets=PATIENT, cache=CacheConfig(items=0))
    store = MemoryOnlineStore.from_events(schema, tables.interactions, tables.items, tables.users)
    now = float(tables.interactions["timestamp"].to_numpy().max()) + 86_400
    query = Query("r", str(tables.interactions["user_id"][0]), now, time.monotonic() + 600, 20)
    genres: list[list[str]] = bundle.catalogue.table["genres"].to_pylist()

    async def both() -> dict[str, Any]:
        inline = compose(bundle, store, config)
        grouped, [wire] = await apart(config, ("retrieval",), store=store)
        queries = (query, replace(query, context={"adults": 1}))
        return {
            "inline": [await answer(inline, each) for each in queries],
            "group": [await answer(grouped, each) for each in queries],
            "calls": len(wire.calls),
        }

    async def answer(engine: Engine, asked: Query) -> dict[str, Any]:
        given = await engine.recommend.run(asked)
        items = given.shown.item_index.tolist()
        bit, sources = given.sources.index("picks"), given.shown.source.tolist()
        return {
            "items": items,
            "degraded": given.degraded,
            "picked": [item for item, of in zip(items, sources, strict=True) if of >> bit & 1],
            "genres": [genres[item] for item in items],
        }

    picks = bundle.component("picks").arrays["item_index"].tolist()
    print(json.dumps({"directory": str(directory), "picks": picks, **asyncio.run(both())}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
