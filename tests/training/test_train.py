from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import marquee
from features.schema import FeatureSchema
from training.bundle import read_bundle
from training.cases import Cases
from training.data.manifest import DataError
from training.data.tables import Tables
from training.dataset import Dataset, Int64, build
from training.fit.neighbours import NEIGHBOURS
from training.inputs import digest, up_to_date
from training.loop import Inputs, State, Weights, Worker
from training.loop import train as train_towers
from training.models.ann import RECALL
from training.models.eager import EagerNetwork
from training.models.linear import LinearItemModel
from training.models.neighbours import ItemToItem, NeighbourModel
from training.models.statistics import ItemStatistics
from training.models.two_tower.model import TwoTowerScorer
from training.models.two_tower.network import load
from training.recipe import Recipe, default
from training.schedule import Schedule
from training.train import Trained, train


def changed(recipe: Recipe, **fields: Any) -> Recipe:
    return recipe.model_copy(update=fields)


RECIPE = changed(default().with_options("two_tower", epochs=2, batch=64), workers=1)


def in_process(inputs: Inputs, schedule: Schedule, directory: Path) -> Mapping[str, Weights]:
    def silent(facts: dict[str, float | str], state: State) -> None: ...

    return train_towers(inputs, schedule, Worker(), None, silent)


@pytest.fixture
def home(tables: Tables, schema: FeatureSchema, tmp_path: Path) -> Path:
    tables.write(tmp_path / "data")
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "schema.json").write_text(schema.to_json())
    return tmp_path


def run(home: Path, schema: FeatureSchema, recipe: Recipe = RECIPE) -> Trained:
    inputs = digest(home / "data", schema.fingerprint(), recipe)
    return train(home, schema, inputs, recipe, in_process, lambda part: None)


def test_a_bundle_holds_what_serving_asks_for_and_is_better_than_popularity(
    home: Path, schema: FeatureSchema, dataset: Dataset
) -> None:
    trained = run(home, schema)
    bundle = read_bundle(str(trained.directory), fingerprint=schema.fingerprint())
    assert set(bundle.components) == {"two_tower", "ease", "sequential", "statistics", "ranker", "blend"}
    assert bundle.manifest.data_window == dataset.window
    assert not (home / "training").joinpath(bundle.manifest.inputs[:12]).exists()
    ours, ease, popularity = trained.validation
    assert (ours.name, ease.name, popularity.name) == ("marquee", "EASE", "popularity")
    assert ours.values["ndcg@10"] > popularity.values["ndcg@10"]
    card = (trained.directory / "MODEL_CARD.md").read_text()
    assert "generated: free" in card
    assert f"{ours.values['ndcg@10']:.4f}" in card


def test_held_out_events_leave_no_trace_in_the_models(home: Path, schema: FeatureSchema) -> None:
    """Swapping validation and test items among users changes neither model nor calibration."""
    before = read_bundle(str(run(home, schema).directory))
    tables = Tables.read(home / "data")
    hidden = held_out_rows(tables, schema)
    item = tables.interactions["item_id"].combine_chunks()
    codes = item.indices.to_numpy().copy()
    codes[hidden] = np.roll(codes[hidden], 7)
    swapped = type(item).from_arrays(codes, item.dictionary)
    changed = tables.interactions.set_column(1, "item_id", swapped)
    replace(tables, interactions=changed).write(home / "data")
    after = read_bundle(str(run(home, schema).directory))
    for name, component in before.components.items():
        assert component.settings == after.components[name].settings
        for key, array in component.arrays.items():
            np.testing.assert_array_equal(array, after.components[name].arrays[key])
    np.testing.assert_array_equal(before.catalogue.features, after.catalogue.features)


def held_out_rows(tables: Tables, schema: FeatureSchema) -> Int64:
    data = build(tables, schema)
    rows: Int64 = data.events.row[np.concatenate([data.validation, data.test])]
    return rows


def test_equal_inputs_give_the_same_bundle_and_another_seed_another(
    home: Path, schema: FeatureSchema, tmp_path: Path
) -> None:
    first = run(home, schema).directory
    moved = first.rename(tmp_path / "first")
    second = run(home, schema).directory
    assert second.name == first.name
    shutil.rmtree(moved)
    assert run(home, schema, changed(RECIPE, seed=1)).directory.name != first.name


def test_the_bundle_is_up_to_date_until_any_input_changes(home: Path, schema: FeatureSchema) -> None:
    trained = run(home, schema)
    fingerprint = schema.fingerprint()
    same = digest(home / "data", fingerprint, RECIPE)
    found = up_to_date(home / "bundles", same)
    assert found is not None
    assert found[0] == trained.directory
    others = [
        digest(home / "data", "another schema", RECIPE),
        digest(home / "data", fingerprint, changed(RECIPE, seed=1)),
        digest(home / "data", fingerprint, changed(RECIPE, workers=2)),
    ]
    tables = Tables.read(home / "data")
    replace(tables, interactions=tables.interactions.slice(1)).write(home / "data")
    others.append(digest(home / "data", fingerprint, RECIPE))
    assert len({same, *others}) == 5
    assert all(up_to_date(home / "bundles", other) is None for other in others)


def test_a_run_that_fails_keeps_its_checkpoints_and_the_old_bundle(home: Path, schema: FeatureSchema) -> None:
    old = run(home, schema).directory

    def broken(inputs: Inputs, schedule: Schedule, directory: Path) -> Mapping[str, Weights]:
        directory.mkdir(parents=True)
        (directory / "state.pt").touch()
        raise RuntimeError("killed")

    other = changed(RECIPE, seed=1)
    inputs = digest(home / "data", schema.fingerprint(), other)
    stale = home / "training" / "0123456789ab"
    stale.mkdir()
    with pytest.raises(RuntimeError, match="killed"):
        train(home, schema, inputs, other, broken, lambda part: None)
    assert (home / "training" / inputs[:12] / "state.pt").exists()
    assert not stale.exists()
    assert (home / "bundles" / "LATEST").read_text() == old.name


def test_two_runs_at_once_are_refused(home: Path, schema: FeatureSchema) -> None:
    def nested(inputs: Inputs, schedule: Schedule, directory: Path) -> Mapping[str, Weights]:
        with pytest.raises(DataError, match="another `marquee train` is at work"):
            run(home, schema)
        return in_process(inputs, schedule, directory)

    inputs = digest(home / "data", schema.fingerprint(), RECIPE)
    train(home, schema, inputs, RECIPE, nested, lambda part: None)


def test_models_of_the_bundle_read_back_to_the_same_scores(
    home: Path, schema: FeatureSchema, dataset: Dataset
) -> None:
    bundle = read_bundle(str(run(home, schema).directory))
    cases = Cases.each(dataset, dataset.validation)
    user = load(bundle.component("two_tower"))
    tower = TwoTowerScorer.from_component(bundle.component("two_tower"), EagerNetwork(user, user.signature))
    ease = LinearItemModel.from_component(bundle.component("ease"))
    assert ItemStatistics.from_component(bundle.component("statistics")).n_items == dataset.n_items
    histories = dataset.histories(cases.positions)
    vectors = tower.user_vectors(histories, dataset.user_features[cases.positions])
    assert vectors.shape == (len(cases), tower.item_vectors.shape[1])
    assert np.isfinite(vectors).all()
    assert np.isfinite(ease.scores(histories)).all()


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("training.fit.kinds", "training.evaluate", "training.models.two_tower.network"):
        monkeypatch.setattr(f"{name}.DENSE_ITEMS", 10)
    for name in ("training.fitting", "training.models.ann"):
        monkeypatch.setattr(f"{name}.APPROXIMATE_FROM", 10)
    monkeypatch.setattr("training.models.ann.PROBES", (1.0,))  # of so few items there are a handful of lists


@pytest.mark.usefixtures("everything_is_large")
def test_a_large_catalogue_gets_neighbours_and_an_index_with_its_recall(
    home: Path, schema: FeatureSchema, dataset: Dataset
) -> None:
    trained = run(home, schema)
    bundle = read_bundle(str(trained.directory), fingerprint=schema.fingerprint())
    for name in ("ease", "sequential"):
        model = ItemToItem.from_component(bundle.component(name))
        assert isinstance(model, NeighbourModel)
        assert len(model.neighbours) == dataset.n_items
        assert model.neighbours.lengths.max() <= NEIGHBOURS
    component = bundle.component("two_tower")
    user = load(component)
    tower = TwoTowerScorer.from_component(component, EagerNetwork(user, user.signature))
    assert tower.index is not None
    assert tower.index.recall >= RECALL
    ours, popularity = trained.validation
    assert popularity.name == "popularity"
    assert ours.values["ndcg@10"] > popularity.values["ndcg@10"]


def command(*args: str) -> tuple[int, str]:
    result = CliRunner().invoke(marquee.build("train"), ["train", *args])
    return result.exit_code, result.output + result.stderr


def test_the_command_says_up_to_date_without_training(home: Path, schema: FeatureSchema) -> None:
    recipe = default()
    inputs = digest(home / "data", schema.fingerprint(), recipe)
    train(home, schema, inputs, changed(RECIPE, workers=1), in_process, lambda part: None)
    code, output = command("--home", str(home))
    assert (code, "is up to date" in output) == (0, True)


def test_the_command_refuses_a_catalogue_too_large_before_it_reads_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.limits.MAX_ITEMS", 5)
    monkeypatch.setattr("training.train.train", None)
    code, output = command("--home", str(home))
    assert code == 1
    assert "more than the 5 that training takes" in " ".join(output.split())


def test_the_command_says_what_is_missing(home: Path) -> None:
    (home / "data" / "dataset.json").unlink()
    code, output = command("--home", str(home))
    assert code == 1
    assert "run `marquee data`" in output
    (home / "features" / "schema.json").unlink()
    code, output = command("--home", str(home))
    assert code == 1
    assert "run `marquee data`, then `marquee features`" in " ".join(output.split())
    (home / "features" / "schema.json").write_text("{")
    assert command("--home", str(home))[0] == 1
