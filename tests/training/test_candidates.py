from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from training.candidates import BaseModels, allowed, build_lists, union
from training.data.manifest import DataError
from training.dataset import Dataset
from training.fit.linear import fit_ease, fit_sequential
from training.fit.two_tower import TwoTower, TwoTowerSettings
from training.models.linear import LinearItemModel
from training.models.statistics import ItemStatistics
from training.recipe import Recipe

RECIPE = replace(
    Recipe(), sizes={"two_tower": 10, "ease": 10, "sequential": 5, "popular": 5}, list_size=12, lists=100
)


@pytest.fixture(scope="module")
def models(dataset: Dataset) -> BaseModels:
    older, _ = dataset.hold_out(RECIPE.hold)
    known = dataset.subset(older)
    tower = TwoTower(TwoTowerSettings(), dataset.item_profiles, dataset.user_features.shape[1])
    return BaseModels(
        tower.scorer(),
        LinearItemModel.of(fit_ease(known.offsets, known.item_index, dataset.n_items), 6.0),
        LinearItemModel.of(fit_sequential(known.offsets, known.item_index, dataset.n_items), 4.0),
        ItemStatistics.from_events(known.item_index, known.value, known.timestamp, dataset.n_items),
    )


def test_a_list_holds_the_item_taken_and_retrieved_items_as_of_the_event(
    models: BaseModels, dataset: Dataset
) -> None:
    _, newest = dataset.hold_out(RECIPE.hold)
    lists = build_lists(models, dataset, newest, replace(RECIPE, lists=10_000))
    features, row = models.features, 0
    for position in newest.tolist():
        history, known = dataset.history(position), dataset.user_features[position]
        now = dataset.now(position)
        found = models.retrieval.retrieve(
            history, known, now, allowed(dataset.n_items, history), RECIPE.sizes
        )
        target = dataset.events.item_index[position]
        if target not in union(found):
            continue
        pool = features.compute(history, known, now, union(found))
        present = lists.ranking.features[row][lists.ranking.present[row]]
        taken = features.compute(history, known, now, np.array([target], np.int32))
        np.testing.assert_allclose(present[:1], taken, atol=1e-5)
        distance = np.abs(present[:, None] - pool[None]).max(axis=2)
        assert (distance.min(axis=1) < 1e-5).all()
        assert len(present) == min(RECIPE.list_size, len(pool))
        row += 1
    assert row == len(lists.ranking.features) > 10


def test_calibration_sees_everything_retrieved_and_at_most_one_hit_an_event(
    models: BaseModels, dataset: Dataset
) -> None:
    _, newest = dataset.hold_out(RECIPE.hold)
    lists = build_lists(models, dataset, newest, RECIPE)
    assert set(lists.retrieved) == set(RECIPE.sizes)
    for source, (scores, taken) in lists.retrieved.items():
        assert len(scores) == len(taken) <= RECIPE.lists * RECIPE.sizes[source]
        assert 0 < taken.sum() <= RECIPE.lists
    blend = lists.fit_blend(RECIPE.quotas)
    assert set(blend.names) == set(RECIPE.sizes)


def test_lists_are_repeatable_and_follow_the_seed(models: BaseModels, dataset: Dataset) -> None:
    _, newest = dataset.hold_out(RECIPE.hold)
    one, same, other = (
        build_lists(models, dataset, newest, replace(RECIPE, seed=seed)).ranking for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.features, same.features)
    assert one.features.shape != other.features.shape or (one.features != other.features).any()


def test_nothing_retrieved_is_said(models: BaseModels, dataset: Dataset) -> None:
    _, newest = dataset.hold_out(RECIPE.hold)
    with pytest.raises(DataError, match="retrieval found the item of none"):
        build_lists(models, dataset, newest, replace(RECIPE, sizes={"popular": 0}))
