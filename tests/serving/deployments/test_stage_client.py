"""Stages on replicas of their own: the same answers, one call a batch, and what a lost call costs."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prometheus_client import generate_latest

from features.store import OnlineStore
from serving.build import STAGES, Placement, compose
from serving.config import Budgets, CacheConfig, ServeConfig
from serving.deployments.stage_client import Outcome, StageClient, Stages
from serving.deployments.stage_replica import StageReplica
from serving.engine import Engine
from serving.errors import Unavailable
from serving.local.ports import free_block
from serving.runtime.protocol import RuntimeUnavailable
from serving.runtime_options import RuntimeName, RuntimeOptions, TorchOptions, TritonOptions
from serving.state import State
from serving.types import Diversity, History, Query
from tests.serving.models import small, write_small
from training.bundle import read_bundle

PATIENT = Budgets(source=60_000, ranker=60_000, diversity=60_000, explainer=60_000, features=60_000)
GROUPS: list[tuple[Stages, ...]] = [
    (("retrieval",), ("ranking",), ("diversity",), ("explain",)),
    (("retrieval", "ranking"),),
    (("ranking",),),
    (("retrieval", "ranking", "diversity", "explain"),),
    (("retrieval",), ("diversity", "explain")),
]


@pytest.fixture(scope="module")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("bundles"))


def config(bundle: Path, **given: Any) -> ServeConfig:
    return ServeConfig(bundle=str(bundle), cache=CacheConfig(items=0), **{"budgets": PATIENT, **given})


@dataclass
class Wire:
    """What crosses between an ingress and one group's replica: pickled, as Ray Serve does it."""

    replica: StageReplica
    calls: list[tuple[str, Stages]] = field(default_factory=list)
    fault: Any = None
    largest: int = 0

    async def call(self, version: str, pipeline: str, stages: Stages, state: State) -> Outcome:
        self.calls.append((pipeline, stages))
        if self.fault is not None:
            await self.fault()
        crossing = pickle.dumps(state)
        done = pickle.dumps(await self.replica.run(version, pipeline, stages, pickle.loads(crossing)))
        self.largest = max(self.largest, len(crossing), len(done))
        outcome: Outcome = pickle.loads(done)
        return outcome


async def apart(
    config: ServeConfig,
    *groups: Stages,
    runtime: RuntimeName = RuntimeName.ONNX,
    store: OnlineStore | None = None,
) -> tuple[Engine, list[Wire]]:
    """An engine whose stages of these groups run on replicas, and the wires to them."""
    wires = []
    for stages in groups:
        replica = StageReplica(config, stages, runtime)
        await replica.reconfigure({})
        wires.append(Wire(replica))
    bundle = read_bundle(config.bundle)

    def elsewhere(pipeline: str) -> dict[str, StageClient]:
        version = bundle.manifest.version
        return {
            stage: client
            for stages, wire in zip(groups, wires, strict=True)
            for client in [StageClient(wire.call, version, pipeline, stages)]
            for stage in stages
        }

    here = [stage for stage in STAGES if all(stage not in stages for stages in groups)]
    placement = Placement(here, elsewhere=elsewhere)
    return compose(bundle, store or small().store(), config, placement=placement), wires


def queries(count: int = 5, timeout_s: float = 60.0) -> list[Query]:
    """Users with a past, one without, a session, one nobody knows; with filters, exclusions, variety."""
    world = small()
    users = [*world.data.events.user_ids[:6], "silent", "nobody"]
    made = [
        Query(
            request_id=f"r{i}",
            user_id=user,
            now=world.now,
            deadline=time.monotonic() + timeout_s,
            count=count + i % 3,
            exclude=np.array([i, i + 1], np.int32),
            diversity=Diversity("mmr", 0.3 if i % 2 else 0.0),
            explain=True,
        )
        for i, user in enumerate(users)
    ]
    items = np.arange(3, dtype=np.int32)
    history = History(items, np.ones(3, np.float32), np.full(3, world.now))
    return [*made, replace(made[0], request_id="s", user_id=None, session=True, history=history)]


async def answers(engine: Engine, asked: Sequence[Query], pipeline: str = "recommend") -> list[Any]:
    found = await asyncio.gather(*(engine.pipeline(pipeline).run(each) for each in asked))
    return [
        (
            each.shown.item_index.tolist(),
            np.round(each.shown.retrieval_score, 4).tolist(),
            None if each.shown.score is None else np.round(each.shown.score, 4).tolist(),
            each.shown.source.tolist(),
            each.tier,
            each.degraded,
            tuple((one.sentence, one.anchor_index) for one in each.explanations),
        )
        for each in found
    ]


@pytest.mark.parametrize("groups", GROUPS, ids=str)
async def test_a_group_answers_as_the_ingress_does(bundle_dir: Path, groups: tuple[Stages, ...]) -> None:
    inline = compose(read_bundle(str(bundle_dir)), small().store(), config(bundle_dir))
    distributed, _ = await apart(config(bundle_dir), *groups)
    assert await answers(distributed, queries()) == await answers(inline, queries())
    named = [replace(each, items=np.array([3, 1, 2], np.int32)) for each in queries()]
    for pipeline in ("similar", "rank"):
        assert await answers(distributed, named, pipeline) == await answers(inline, named, pipeline)


@pytest.mark.parametrize("runtime", [RuntimeName.ONNX, RuntimeName.TORCH])
async def test_a_group_answers_alike_on_every_runtime(bundle_dir: Path, runtime: RuntimeName) -> None:
    inline = compose(read_bundle(str(bundle_dir)), small().store(), config(bundle_dir))
    on_cpu = config(bundle_dir, runtimes=RuntimeOptions(torch=TorchOptions(device="cpu")))
    distributed, _ = await apart(on_cpu, ("retrieval", "ranking"), runtime=runtime)
    items = [each[0] for each in await answers(distributed, queries())]
    assert items == [each[0] for each in await answers(inline, queries())]


async def test_a_gpu_that_is_not_there_is_said_at_once(bundle_dir: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(RuntimeUnavailable, match="finds no GPU here"):
        StageReplica(config(bundle_dir), ("ranking",), RuntimeName.TORCH)


async def test_neighbouring_stages_of_a_group_are_one_call_a_batch(bundle_dir: Path) -> None:
    engine, [wire] = await apart(config(bundle_dir), ("retrieval", "ranking"))
    asked = queries()
    await answers(engine, asked)
    assert set(wire.calls) == {("recommend", ("retrieval", "ranking"))}
    assert len(wire.calls) < len(asked)


async def test_no_columns_and_nothing_computed_crosses(bundle_dir: Path) -> None:
    engine, wires = await apart(config(bundle_dir), ("retrieval",), ("ranking",), ("explain",))
    await answers(engine, queries(count=5)[:1])
    assert max(wire.largest for wire in wires) < 8_000  # 40 items; their columns alone would be 2,240 bytes


async def fails() -> None:
    raise ConnectionError("injected")


async def hangs() -> None:
    await asyncio.Event().wait()


SHORT = Budgets(source=60, ranker=60, diversity=60, explainer=60, features=60_000)
LOST = {
    ("ranking",): {"ranker"},
    ("diversity",): {"diversity"},
    ("explain",): {"explainer"},
    ("ranking", "diversity"): {"ranker", "diversity"},
}


@pytest.mark.parametrize("fault", [fails, hangs])
@pytest.mark.parametrize("stages", LOST, ids=str)
async def test_a_lost_call_costs_its_stages_and_nothing_else(
    bundle_dir: Path, stages: Stages, fault: Any
) -> None:
    engine, [wire] = await apart(config(bundle_dir, budgets=SHORT if fault is hangs else PATIENT), stages)
    wire.fault = fault
    [query, *_] = [each for each in queries() if each.diversity.strength]
    answer = await engine.recommend.run(query)
    assert LOST[stages] <= set(answer.degraded)
    assert len(answer.shown) == query.count
    assert answer.timings_ms.keys() >= LOST[stages]


@pytest.mark.parametrize("fault", [fails, hangs])
async def test_without_retrieval_there_is_nothing_to_answer_with(bundle_dir: Path, fault: Any) -> None:
    engine, [wire] = await apart(config(bundle_dir), ("retrieval",))
    wire.fault = fault
    with pytest.raises(Unavailable):
        await engine.recommend.run(queries(timeout_s=0.3 if fault is hangs else 60)[0])


async def test_another_bundles_replica_refuses(bundle_dir: Path) -> None:
    """Its indices mean other items there."""
    engine, [wire] = await apart(config(bundle_dir), ("ranking",))
    foreign = StageClient(wire.call, "another", "recommend", ("ranking",))
    lost = engine.with_pipeline("recommend", replace(engine.recommend, runners={"ranking": foreign}))
    assert "ranker" in (await lost.recommend.run(queries()[0])).degraded


async def test_a_replica_gives_up_before_its_caller_does(bundle_dir: Path) -> None:
    """What one stage of a group made arrives although the next one hangs there."""
    engine, [wire] = await apart(config(bundle_dir), ("retrieval", "ranking"))
    served = wire.replica._service.of(engine.version)

    class Blocks:
        name, requires = "blocks", ()

        @staticmethod
        def takes(queries: Any) -> Any:
            return queries.histories.item_index.lengths > 0

        def score(self, queries: Any, candidates: Any) -> Any:
            released.wait(30)
            return np.zeros(len(candidates.item_index), np.float32)

    import threading

    released = threading.Event()
    slow = replace(served.recommend, scorer=Blocks(), budgets=SHORT.model_copy(update={"source": 2_000}))
    monkey = served.with_pipeline("recommend", slow)
    wire.replica._service.of = lambda version: monkey  # type: ignore[method-assign]  # the fault
    try:
        answer = await engine.recommend.run(queries()[0])
    finally:
        released.set()
    assert answer.degraded == ("ranker",)
    assert len(answer.shown)


async def test_a_replica_counts_the_calls_that_triton_lost(bundle_dir: Path) -> None:
    options = TritonOptions(address=f"127.0.0.1:{free_block()[0]}", deadline_ms=200, ready_s=0.1)
    given = config(bundle_dir, runtimes=RuntimeOptions(triton=options))
    engine, [wire] = await apart(given, ("retrieval",), runtime=RuntimeName.TRITON)
    try:
        answer = await engine.recommend.run(queries()[0])
        assert (answer.degraded, len(answer.shown.item_index)) == ((), 5)
        counted = generate_latest(wire.replica.registry).decode()
        assert 'marquee_degraded_total{reason="unavailable",stage="triton:two_tower"} 1.0' in counted
    finally:
        wire.replica.close()
