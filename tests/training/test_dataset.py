from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.build import build as build_features
from features.feast_config import feature_store
from features.offline import stamps, training_set
from features.schema import FeatureSchema
from features.transforms import encode
from training.cases import Cases
from training.data.manifest import DataError
from training.data.synthetic import synthesize
from training.data.tables import Tables
from training.dataset import KEPT_EVENTS, Dataset, build, held_back
from training.evaluate import Popularity
from training.recipe import default


def test_every_event_is_in_one_split_and_held_out_ones_come_last(dataset: Dataset) -> None:
    parts = (dataset.train, dataset.validation, dataset.test)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(dataset.events)))
    ends = dataset.events.offsets[1:][dataset.events.user_index[dataset.test]]
    assert (dataset.test == ends - 1).all()
    assert (dataset.validation == ends - 2).all()


@pytest.mark.parametrize("per_user", [1, 8, 10_000])
def test_held_out_training_events_are_the_newest_of_each_user(dataset: Dataset, per_user: int) -> None:
    older, newest = dataset.hold_out(per_user)
    assert sorted([*older, *newest]) == dataset.train.tolist()
    users = dataset.events.user_index
    counts = np.bincount(users[dataset.train], minlength=len(dataset.events.user_ids))
    held = held_back(counts, per_user)
    for user in np.unique(users[dataset.train]):
        mine = dataset.train[users[dataset.train] == user].tolist()
        assert newest[users[newest] == user].tolist() == mine[len(mine) - held[user] :]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(1, 50))
def test_holding_back_never_takes_everything_and_gives_what_there_is(counts: list[int], most: int) -> None:
    had = np.array(counts, np.int64)
    held = held_back(had, most)
    left = had - held
    assert ((held >= 0) & (held <= most)).all()
    assert (left[had > 0] >= 1).all()
    assert (left[held > 1] >= KEPT_EVENTS).all()
    assert (left >= 2).any() == (had >= 2).any()  # there is a pair to learn from, if there ever was
    assert held.any() == ((had >= 3).any() or (had == 2).sum() > 1)


def test_long_histories_give_as_many_as_the_recipe_says() -> None:
    """MovieLens-100K's users have 18 training events or more: the recipe was chosen there."""
    had = np.arange(18, 800)
    assert (held_back(had, default().hold) == default().hold).all()


def test_examples_have_a_history_of_the_users_own(dataset: Dataset) -> None:
    examples = dataset.examples(dataset.train)
    assert len(examples) == len(dataset.train) - len(np.unique(dataset.events.user_index[dataset.train]))
    assert dataset.histories(examples).lengths.all()


@given(data=st.data())
def test_histories_are_all_that_a_user_had_before_an_event(dataset: Dataset, data: st.DataObject) -> None:
    """Of a batch of events in any order, first events among them."""
    events = dataset.events
    chosen = data.draw(st.lists(st.integers(0, len(events) - 1), max_size=8))
    positions = np.array(chosen, np.int64)
    histories, hidden = dataset.histories(positions), dataset.hidden_before(positions)
    assert len(histories) == len(hidden) == len(chosen)
    for row, position in enumerate(chosen):
        own = np.flatnonzero(events.user_index[:position] == events.user_index[position])
        assert histories[row].tolist() == events.item_index[own].tolist()
        assert hidden[row].tolist() == dataset.hidden(position).tolist()


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


def without_rows(tables: Tables, gone: int, listed: bool = True) -> tuple[Tables, list[str]]:
    """The same data set as if its items table lacked some of the items people met; and those."""
    met = tables.interactions["item_id"].cast(pa.string()).unique().to_pylist()
    kept = [item not in met[:gone] for item in tables.items["item_id"].to_pylist()]
    items = tables.items.filter(pa.array(kept)) if listed else None
    return Tables.assemble(tables.interactions, items, tables.users, tables.about), met[:gone]


def test_an_item_taken_out_of_items_stays_in_histories_alone(tables: Tables, tmp_path: Path) -> None:
    fewer, gone = without_rows(tables, 3)
    fewer.write(tmp_path / "data")
    fewer = Tables.read(tmp_path / "data")  # what is on disk says it too
    data = build(fewer, FeatureSchema.infer(fewer.interactions, fewer.items, fewer.users))
    catalogue = data.catalogue
    assert sorted(catalogue.ids[index] for index in catalogue.delisted) == sorted(gone)
    assert (data.n_items, data.n_listed) == (len(catalogue), len(catalogue) - 3)
    assert "the other 3 count in histories and are not recommended" in " ".join(data.notes)
    targets = data.events.item_index[np.concatenate([data.validation, data.test])]
    assert not np.isin(targets, catalogue.delisted).any()
    assert np.isin(catalogue.delisted, data.events.item_index[data.train]).any()
    found = Popularity.fit(data).recommend(Cases.each(data, data.test), data.n_items)
    assert not np.isin(found, catalogue.delisted).any()


@pytest.mark.parametrize("listed", [True, False])
def test_a_table_of_other_items_takes_nothing_out(tables: Tables, listed: bool) -> None:
    """Ids that do not join would leave nobody anything; and without a table there is nothing to be missing
    from."""
    other, _ = without_rows(tables, 75, listed)
    data = build(other, FeatureSchema.infer(other.interactions, other.items, other.users))
    assert len(data.catalogue.delisted) == 0
    assert [("less than half" in note) for note in data.notes] == ([True] if listed else [])


def test_what_an_answer_cannot_say_is_left_out_and_named(tables: Tables) -> None:
    photos = pa.array([b"\xff\xd8"] * tables.items.num_rows)
    items = tables.items.append_column("photo", photos)
    data = build(
        Tables(tables.interactions, items, tables.users, tables.about),
        FeatureSchema.infer(tables.interactions, items, tables.users),
    )
    assert "photo" not in data.catalogue.property_names
    assert data.notes == ("items.photo is in no answer: JSON cannot say its values",)


def test_a_world_too_small_is_refused_in_one_line() -> None:
    tables = synthesize(20, 40, 100, seed=0)
    schema = FeatureSchema.infer(tables.interactions, tables.items, tables.users)
    with pytest.raises(DataError, match=r"synthetic has \d+ training interactions; training needs 200"):
        build(tables, schema)
