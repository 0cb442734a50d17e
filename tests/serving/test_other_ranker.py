"""A recipe that names another ranker: one line, and it is trained, served and explained."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

import pytest
import yaml

from features.memory_store import MemoryOnlineStore
from serving.build import compose
from serving.config import CacheConfig, ServeConfig
from serving.evaluation import PATIENT, ServedPipeline
from serving.types import Query, Recommendation
from training.bundle import read_bundle
from training.data.tables import Tables
from training.evaluate import evaluate
from training.loop import Worker
from training.loop import train as fit
from training.models.dcn.model import DcnRanker
from training.models.ranking_features import NAMES
from training.recipe import DEFAULT, read
from training.recipe_check import check
from training.train import Trained, train


@pytest.fixture(scope="module")
def home(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("other")
    shutil.copytree(bundle_dir.parents[1] / "data", home / "data")
    return home


@pytest.fixture(scope="module")
def trained(bundle_dir: Path, home: Path) -> Trained:
    changed = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    changed["models"]["ranker"] = {"kind": "dcn", "steps": 60}
    changed["models"]["two_tower"]["epochs"] = 1
    for stage in changed["pipelines"]["recommend"]["stages"]:
        if stage["role"] == "explainer":
            stage["contributions"] = len(NAMES)
    path = home / "dcn.yaml"
    path.write_text(yaml.safe_dump(changed), encoding="utf-8")
    check(recipe := read(path), path)
    schema = read_bundle(str(bundle_dir)).schema
    return train(
        home,
        schema,
        inputs="dcn",
        recipe=recipe,
        fit=lambda inputs, schedule, _: fit(inputs, schedule, Worker(), None, lambda *_: None),
        said=lambda _: None,
    )


def test_its_scores_are_served_with_reasons_that_add_up_to_them(home: Path, trained: Trained) -> None:
    bundle = read_bundle(str(trained.directory))
    assert bundle.declaration.components["ranker"].kind == "dcn"
    assert (trained.directory / "ranker.onnx").is_file()
    tables = Tables.read(home / "data")
    store = MemoryOnlineStore.from_events(bundle.schema, tables.interactions, tables.items, tables.users)
    config = ServeConfig(bundle=str(trained.directory), budgets=PATIENT, cache=CacheConfig(items=0))
    engine = compose(bundle, store, config)
    ranker = engine.recommend.scorer.ranker  # type: ignore[union-attr]  # the built-in one
    assert isinstance(ranker, DcnRanker)

    async def answers() -> list[Recommendation]:
        users = tables.interactions["user_id"].to_pylist()[:5]
        now = float(tables.interactions["timestamp"].to_numpy().max()) + 86_400
        queries = (Query("r", str(user), now, time.monotonic() + 600, 10, explain=True) for user in users)
        return [await engine.recommend.run(query) for query in queries]

    for given in asyncio.run(answers()):
        assert (given.tier, given.degraded) == ("personalized", ())
        assert given.shown.score is not None
        assert len(given.shown.item_index) == 10
        for score, explanation in zip(given.shown.score, given.explanations, strict=True):
            terms = sum(term.contribution for term in explanation.contributions)
            assert terms + ranker.bias == pytest.approx(score, abs=1e-3)


def test_figures_right_after_training_are_those_of_what_is_served(home: Path, trained: Trained) -> None:
    """They are of the ranker that the recipe names."""
    served = ServedPipeline(read_bundle(str(trained.directory)), Tables.read(home / "data"))
    [found] = evaluate([served], trained.cases)
    offline = trained.validation[0]
    assert offline.name == "marquee"
    for measure in ("ndcg@10", "recall@10"):
        assert found.values[measure] == pytest.approx(offline.values[measure], abs=5e-3)
