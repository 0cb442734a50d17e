"""What is retrieved for held-out events: the ranker's training lists and the blend's calibration.

Both are fitted on models that have not seen these events (`Dataset.hold_out`), with every feature as of the
event. Does not belong here: which models, and how the lists are learned from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from training.data.manifest import DataError
from training.dataset import Dataset
from training.models.arrays import Float32, Float64, Int32, Int64, Mask
from training.models.blend import Blend, fit_blend
from training.models.ragged import Items, Ragged
from training.models.ranking_features import NAMES, ranking_features
from training.models.ranking_lists import RankingLists
from training.models.retrieval import Eligible, Retrieved, retrieve
from training.models.scores import BaseModels, Scores
from training.models.statistics import ItemStatistics
from training.recipe import Recipe

BATCH = 64
"""Events scored at once: 64 users x 20,000 items of scores are 5 MB a model."""


@dataclass(frozen=True, slots=True)
class Lists:
    """Attributes:
    ranking: of the events whose item was retrieved.
    retrieved: source → the scores of all it retrieved, and which of them were the items taken.
    """

    ranking: RankingLists
    retrieved: Mapping[str, tuple[Float32, Mask]]

    def fit_blend(self, quotas: Mapping[str, int]) -> Blend:
        return fit_blend(self.retrieved, quotas)


def build_lists(models: BaseModels, data: Dataset, positions: Int64, recipe: Recipe) -> Lists:
    """Lists of at most `recipe.lists` of these events, drawn at random, in their order or, where not all are
    drawn, in that of time. In a list the item taken stands first, candidates drawn at random from what was
    retrieved with it follow.

    Raises:
        DataError: for none of the events was its item retrieved.
    """
    rng = np.random.default_rng(recipe.seed)
    chosen = np.sort(rng.permutation(positions)[: recipe.lists])
    if len(chosen) < len(positions):  # in order of time, statistics are made once a day
        chosen = chosen[np.argsort(data.events.timestamp[chosen], kind="stable")]
    rows = np.zeros((len(chosen), recipe.list_size, len(NAMES)), np.float32)
    present = np.zeros((len(chosen), recipe.list_size), bool)
    retrieved: dict[str, list[tuple[Float32, Mask]]] = {}
    every = np.ones(data.n_items, bool)
    for start in range(0, len(chosen), BATCH):
        at = chosen[start : start + BATCH]
        targets, now = data.events.item_index[at], data.events.timestamp[at].astype(np.float64)
        scores = Scores(models, data.histories(at), data.user_features[at])
        eligible = Eligible.all_but(data.hidden_before(at), every)
        found = retrieved_by(recipe, scores, models.statistics, now, eligible)
        for source, (items, values) in found.items():
            retrieved.setdefault(source, []).append((values, items.values == targets[items.row]))
        lists = _lists(found, targets, recipe.list_size, rng)
        features = ranking_features(scores, models.statistics, now, lists)
        place = lists.row, np.arange(len(lists.values)) - lists.row_splits[lists.row]
        rows[start + place[0], place[1]] = features
        present[start + place[0], place[1]] = True
    kept = present[:, 0]
    if not kept.any():
        raise DataError(
            f"retrieval found the item of none of the {len(chosen):,} newest training events: users choose "
            "without a pattern, or what they met before and --seen exclude hides"
        )
    return Lists(
        RankingLists(NAMES, rows[kept], present[kept]),
        {
            source: (np.concatenate([values for values, _ in each]), np.concatenate([hit for _, hit in each]))
            for source, each in retrieved.items()
        },
    )


def retrieved_by(
    recipe: Recipe, scores: Scores, statistics: ItemStatistics, now: Float64, eligible: Eligible
) -> dict[str, Retrieved]:
    """Source of the recipe's `recommend` → what it retrieves for b users, as `retrieve`; those that training
    knows."""
    found = retrieve(scores, statistics, now, eligible, recipe.sizes)
    return {source: found[by] for source, by in recipe.retrieved.items()}


def _lists(found: Mapping[str, Retrieved], targets: Int32, size: int, rng: np.random.Generator) -> Items:
    """The item taken, then others that were retrieved, for each event whose item was; else nothing."""
    made = []
    for event, target in enumerate(targets.tolist()):
        others = np.unique(np.concatenate([items[event] for items, _ in found.values()]))
        if target not in others:
            made.append(np.empty(0, np.int32))
            continue
        drawn = rng.permutation(others[others != target])[: size - 1]
        made.append(np.concatenate(([target], drawn)).astype(np.int32))
    return Ragged.of(made, np.int32)
