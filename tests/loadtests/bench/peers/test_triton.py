"""Triton computes the scores that Marquee's ranker does."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tritonclient.http.aio import InferenceServerClient

from loadtests.bench.peers.arms import Arms, started, write_repository
from loadtests.bench.peers.environments import NoEnvironment
from loadtests.bench.peers.triton_app import TritonScorer
from loadtests.bench.peers.triton_server import MODEL
from serving.local.ports import free_block
from serving.ranking.ranker import AdditiveScorer
from serving.types import CandidateBatch, History, Query
from training.bundle import read_bundle
from training.models.ranker import AdditiveRanker


@pytest.fixture(scope="module")
def ranker(bundle_dir: Path) -> AdditiveRanker:
    return AdditiveRanker.from_component(read_bundle(str(bundle_dir)).component("ranker"))


@pytest.fixture(scope="module")
def model(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The model as Triton loads it, with its tensors replaced by what they hold."""
    repository = write_repository(bundle_dir, tmp_path_factory.mktemp("triton") / "models", 1)
    utils = ModuleType("triton_python_backend_utils")
    vars(utils).update(Tensor=lambda name, values: values, InferenceResponse=lambda tensors: tensors[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, utils.__name__, utils)
        code: dict[str, Any] = {"__name__": "model"}
        exec((repository / MODEL / "1" / "model.py").read_text(), code)
    loaded = code["TritonPythonModel"]()
    loaded.initialize({"model_repository": str(repository / MODEL), "model_version": "1"})
    return loaded


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_model_adds_up_what_the_ranker_does(model: Any, ranker: AdditiveRanker, data: Any) -> None:
    shape = (data.draw(st.integers(0, 20)), len(ranker.names))
    rows = data.draw(arrays(np.float32, shape, elements=st.floats(-1e3, 1e3, width=32)))
    np.testing.assert_allclose(model._answer(rows), ranker.score(rows), atol=1e-5)


def query() -> Query:
    history = History(np.zeros(1, np.int32), np.ones(1, np.float32), np.zeros(1))
    return replace(Query("1", "somebody", 0.0, 0.0, 10), history=history)


@pytest.mark.parametrize("answered", [None, np.zeros(3, np.float32)])
async def test_an_answer_that_is_not_one_score_a_row_is_an_error(answered: Any) -> None:
    async def infer(*_: object, **__: object) -> Any:
        return SimpleNamespace(as_numpy=lambda name: answered)

    batch = CandidateBatch.of(np.arange(2, dtype=np.int32), np.ones(2, np.float32))
    scorer = TritonScorer(SimpleNamespace(infer=infer))
    with pytest.raises(ValueError, match="one score a row"):
        await scorer.score(query(), batch.with_features(np.zeros((2, 3), np.float32)))
    with pytest.raises(ValueError, match="hydrate"):
        await scorer.score(query(), batch)


def test_a_real_server_gives_the_scorers_answer(
    bundle_dir: Path, ranker: AdditiveRanker, tmp_path: Path
) -> None:
    try:
        arm = Arms(bundle_dir, tmp_path, "redis://unused", 1, free_block()).triton(make=False)
    except NoEnvironment as why:
        pytest.skip(str(why))
    rows = np.random.default_rng(1).normal(size=(500, len(ranker.names))).astype(np.float32)
    batch = CandidateBatch.of(np.arange(500, dtype=np.int32), np.ones(500, np.float32)).with_features(rows)
    server = replace(arm, programs=arm.programs[:1])

    async def both() -> tuple[CandidateBatch, CandidateBatch]:
        async with InferenceServerClient(arm.programs[1].env["TRITON"]) as client:
            theirs = await TritonScorer(client).score(query(), batch)
        return theirs, await AdditiveScorer(ranker).score(query(), batch)

    with started(server):
        theirs, ours = asyncio.run(both())
    assert theirs.score is not None
    assert ours.score is not None
    np.testing.assert_allclose(theirs.score, ours.score, atol=1e-5)
    np.testing.assert_array_equal(theirs.item_index, ours.item_index)
