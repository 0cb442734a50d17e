from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from features.build import build as build_features
from features.feast_config import feature_store
from features.offline import stamps, training_set
from features.schema import FeatureSchema
from features.transforms import encode
from training.data.manifest import DataError
from training.data.synthetic import synthesize
from training.data.tables import Tables
from training.dataset import Dataset, build


def test_every_event_is_in_one_split_and_held_out_ones_come_last(dataset: Dataset) -> None:
    parts = (dataset.train, dataset.validation, dataset.test)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(dataset.events)))
    ends = dataset.events.offsets[1:][dataset.events.user_index[dataset.test]]
    assert (dataset.test == ends - 1).all()
    assert (dataset.validation == ends - 2).all()


@pytest.mark.parametrize("per_user", [1, 8, 10_000])
def test_held_out_training_events_are_the_newest_and_leave_one(dataset: Dataset, per_user: int) -> None:
    older, newest = dataset.hold_out(per_user)
    assert sorted([*older, *newest]) == dataset.train.tolist()
    users = dataset.events.user_index
    for user in np.unique(users[dataset.train]):
        mine = dataset.train[users[dataset.train] == user]
        expected = mine[max(1, len(mine) - per_user) :]
        assert newest[users[newest] == user].tolist() == expected.tolist()


def test_examples_have_a_history_of_the_users_own(dataset: Dataset) -> None:
    examples = dataset.examples(dataset.train)
    assert len(examples) == len(dataset.train) - len(np.unique(dataset.events.user_index[dataset.train]))
    for position in examples[:50].tolist():
        history = dataset.history(position)
        assert len(history)
        begin = position - len(history)
        assert (dataset.events.user_index[begin:position] == dataset.events.user_index[position]).all()


def test_held_out_events_do_not_reach_the_catalogues_features(tables: Tables, schema: FeatureSchema) -> None:
    """Other values and items in validation and test must change nothing but what comes after them."""
    before = build(tables, schema)
    hidden = before.events.row[np.concatenate([before.validation, before.test])]
    value = tables.interactions["value"].to_numpy().copy()
    value[hidden] = 1.0 + 4.0 * (value[hidden] < 3)
    column = tables.interactions.schema.get_field_index("value")
    changed = Tables(
        tables.interactions.set_column(column, "value", [value]), tables.items, tables.users, tables.about
    )
    after = build(changed, schema)
    assert (before.catalogue.features == after.catalogue.features).all()
    assert (before.user_features[before.train] == after.user_features[after.train]).all()
    assert (before.user_features[before.validation] == after.user_features[after.validation]).all()
    assert (before.user_features[before.test] != after.user_features[after.test]).any()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_user_features_are_what_feast_gives_for_the_same_moments(
    tables: Tables, schema: FeatureSchema, dataset: Dataset, tmp_path: Path
) -> None:
    tables.write(tmp_path / "data")
    build_features(tmp_path / "data", tmp_path / "features", "digest", None, lambda *_: None)
    chosen = np.random.default_rng(0).permutation(len(dataset.events))[:100]
    rows = dataset.events.row[chosen]
    users = [dataset.events.user_ids[user] for user in dataset.events.user_index[chosen]]
    items = [dataset.events.item_ids[item] for item in dataset.events.item_index[chosen]]
    stamp = stamps(tables.interactions["timestamp"].to_numpy())[rows]
    known = training_set(feature_store(schema, tmp_path / "features"), schema, users, items, stamp)
    features = [feature for feature in schema.user if feature.name in known.user]
    np.testing.assert_allclose(encode(features, known.user), dataset.user_features[chosen], atol=1e-5)


def test_item_profiles_are_the_features_without_statistics(dataset: Dataset, schema: FeatureSchema) -> None:
    names = schema.item_inputs[schema.item_width - dataset.item_profiles.shape[1] :]
    assert names[0] != schema.item_inputs[0]
    assert not [name for name in names if name.startswith("item_")]
    assert "year" in names


def test_a_world_too_small_is_refused_in_one_line() -> None:
    tables = synthesize(20, 40, 100, seed=0)
    schema = FeatureSchema.infer(tables.interactions, tables.items, tables.users)
    with pytest.raises(DataError, match=r"synthetic has \d+ training interactions; training needs 200"):
        build(tables, schema)
