"""Every model through a real bundle's files: safetensors and JSON, as serving reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.training.models.worlds import NOW, USER_WIDTH, floats, history, linear, one, scorer, statistics
from training.bundle import Component, _load_component, _save_component
from training.models.blend import Blend, Calibration
from training.models.eager import EagerNetwork
from training.models.linear import LinearItemModel
from training.models.ranker import AdditiveRanker
from training.models.ranking_features import NAMES, ranking_features
from training.models.retrieval import SOURCES, Eligible, retrieve
from training.models.scores import BaseModels, Scores
from training.models.statistics import ItemStatistics
from training.models.two_tower.model import TwoTowerScorer
from training.models.two_tower.network import load


def stored(component: Component, path: Path) -> Component:
    _save_component(path, component)
    return _load_component(path)


def test_every_model_scores_the_same_after_it_was_stored(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    models = tower, ease, sequential, known = scorer(rng), linear(rng), linear(rng, 2.0), statistics(rng)
    two_tower = stored(tower.to_component(), tmp_path / "two_tower")
    user = load(two_tower)
    again = (
        TwoTowerScorer.from_component(two_tower, EagerNetwork(user, user.signature)),
        LinearItemModel.from_component(stored(ease.to_component(), tmp_path / "ease")),
        LinearItemModel.from_component(stored(sequential.to_component(), tmp_path / "sequential")),
        ItemStatistics.from_component(stored(known.to_component(), tmp_path / "statistics")),
    )
    knots = [np.sort(floats(rng, 2 + f)) for f in range(len(NAMES))]
    ranker = AdditiveRanker(NAMES, knots, [floats(rng, len(k)) for k in knots], 0.3)
    ranker_again = AdditiveRanker.from_component(stored(ranker.to_component(), tmp_path / "ranker"))
    blend = Blend({name: Calibration(-2, 0.7) for name in SOURCES}, dict.fromkeys(SOURCES, 3))
    blend_again = Blend.from_component(stored(blend.to_component(), tmp_path / "blend"))

    past, features, now = one(*history(rng, 9)), floats(rng, 1, USER_WIDTH), np.array([NOW])
    eligible = Eligible.all_but(one(), rng.random(40) < 0.8)
    answers = []
    for parts, ranking, joining in ((models, ranker, blend), (again, ranker_again, blend_again)):
        base = BaseModels.of(*parts)
        scores = Scores(base, past, features)
        found = retrieve(scores, base.statistics, now, eligible, dict.fromkeys(SOURCES, 10))
        items, probability, bits = joining.blend(found, 20)
        rows = ranking_features(scores, base.statistics, now, items)
        answers.append((items.values, probability, bits, ranking.score(rows)))
    for ours, theirs in zip(*answers, strict=True):
        np.testing.assert_array_equal(ours, theirs)
