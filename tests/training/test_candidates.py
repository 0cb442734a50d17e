from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from training import candidates, offline
from training.candidates import build_lists
from training.cases import Cases
from training.data.manifest import DataError
from training.dataset import Dataset
from training.fit.linear import fit_ease, fit_sequential
from training.fit.ranker import RankerSettings, fit_ranker
from training.models.linear import LinearItemModel
from training.models.ragged import Ragged
from training.models.ranking_features import ranking_features
from training.models.retrieval import Eligible, retrieve
from training.models.scores import BaseModels, Scores
from training.models.statistics import ItemStatistics
from training.models.two_tower.estimator import scorer
from training.models.two_tower.network import TwoTower, TwoTowerSettings
from training.offline import OfflineRecommender
from training.recipe import Recipe, default

FEW = {"two_tower": 10, "ease": 10, "sequential": 5, "popular": 5}


def limited(limits: Mapping[str, int], **fields: Any) -> Recipe:
    """With these limits of sources, by name."""
    recipe = default().with_limits(lambda name, usual: limits.get(name, usual))
    return recipe.model_copy(update=fields)


RECIPE = limited(FEW, list_size=12, lists=100)


@pytest.fixture(scope="module")
def models(dataset: Dataset) -> BaseModels:
    older, _ = dataset.hold_out(RECIPE.hold)
    known = dataset.subset(older)
    tower = TwoTower(TwoTowerSettings(), dataset.item_profiles, dataset.user_features.shape[1])
    return BaseModels.of(
        scorer(tower),
        LinearItemModel.of(fit_ease(known.offsets, known.item_index, dataset.n_items), 6.0),
        LinearItemModel.of(fit_sequential(known.offsets, known.item_index, dataset.n_items), 4.0),
        ItemStatistics.from_events(known.item_index, known.value, known.timestamp, dataset.n_items),
    )


def test_a_list_holds_the_item_taken_and_retrieved_items_as_of_the_event(
    models: BaseModels, dataset: Dataset
) -> None:
    _, newest = dataset.hold_out(RECIPE.hold)
    lists = build_lists(models, dataset, newest, limited(FEW, list_size=12, lists=10_000))
    every, row = np.ones(dataset.n_items, bool), 0
    for position in newest:
        at = np.array([position])
        history, now = dataset.histories(at), dataset.events.timestamp[at].astype(np.float64)
        scores = Scores(models, history, dataset.user_features[at])
        found = retrieve(scores, models.statistics, now, Eligible.all_but(history, every), RECIPE.sizes)
        union = np.unique(np.concatenate([items.values for items, _ in found.values()]))
        target = dataset.events.item_index[at]
        if target not in union:
            continue
        pool, taken = (
            ranking_features(scores, models.statistics, now, Ragged.of([items], np.int32))
            for items in (union, target)
        )
        present = lists.ranking.features[row][lists.ranking.present[row]]
        np.testing.assert_allclose(present[:1], taken, atol=1e-5)
        distance = np.abs(present[:, None] - pool[None]).max(axis=2)
        assert (distance.min(axis=1) < 1e-5).all()
        assert len(present) == min(RECIPE.list_size, len(pool))
        row += 1
    assert row == len(lists.ranking.features) > 10


def test_lists_do_not_depend_on_how_many_events_are_scored_at_once(
    models: BaseModels, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, newest = dataset.hold_out(RECIPE.hold)
    whole = build_lists(models, dataset, newest, RECIPE)
    monkeypatch.setattr(candidates, "BATCH", 7)
    parts = build_lists(models, dataset, newest, RECIPE)
    np.testing.assert_array_equal(parts.ranking.present, whole.ranking.present)
    np.testing.assert_allclose(parts.ranking.features, whole.ranking.features, atol=1e-4)
    for source, (scores, taken) in whole.retrieved.items():
        np.testing.assert_allclose(parts.retrieved[source][0], scores, atol=1e-4)
        np.testing.assert_array_equal(parts.retrieved[source][1], taken)


@pytest.fixture(scope="module")
def recommender(models: BaseModels, dataset: Dataset) -> OfflineRecommender:
    _, newest = dataset.hold_out(RECIPE.hold)
    lists = build_lists(models, dataset, newest, RECIPE)
    return OfflineRecommender(
        models, lists.fit_blend(RECIPE.quotas), fit_ranker(lists.ranking, RankerSettings(steps=30)), RECIPE
    )


def test_what_is_recommended_was_retrieved_and_is_not_hidden(
    recommender: OfflineRecommender, dataset: Dataset
) -> None:
    """More places than items: the rest of a row is -1."""
    cases = Cases.each(dataset, dataset.validation)
    ranked, retrieved = recommender.recommend(cases, 90), recommender.retrieve(cases, 90)
    assert ranked.shape == retrieved.shape == (len(cases), 90)
    assert (ranked != retrieved).any()
    for row, found, hidden in zip(ranked, retrieved, cases.hidden(), strict=True):
        items = row[row >= 0]
        assert 0 < len(items) == len(np.unique(items))
        assert (row[len(items) :] == -1).all()
        assert sorted(row) == sorted(found)
        assert not np.isin(items, hidden).any()


def test_recommendations_do_not_depend_on_how_many_cases_are_answered_at_once(
    recommender: OfflineRecommender, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = Cases.each(dataset, dataset.validation)
    whole = recommender.recommend(cases, 10)
    monkeypatch.setattr(offline, "BATCH", 7)
    np.testing.assert_array_equal(recommender.recommend(cases, 10), whole)


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
        build_lists(models, dataset, newest, RECIPE.model_copy(update={"seed": seed})).ranking
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.features, same.features)
    assert one.features.shape != other.features.shape or (one.features != other.features).any()


def test_nothing_retrieved_is_said(models: BaseModels, dataset: Dataset) -> None:
    _, newest = dataset.hold_out(RECIPE.hold)
    with pytest.raises(DataError, match="retrieval found the item of none"):
        build_lists(models, dataset, newest, limited(dict.fromkeys(FEW, 0)))
