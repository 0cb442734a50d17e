"""What retrieval brings for held-out events: the ranker's training lists and the blend's calibration.

Both are fitted on models that have not seen these events (`Dataset.hold_out`), with every feature as of the
event. Does not belong here: which models, and how the lists are learned from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from training.data.manifest import DataError
from training.dataset import Dataset
from training.fit.ranker import RankingLists
from training.models.arrays import Float32, Int32, Int64, Mask
from training.models.blend import Blend, fit_blend
from training.models.linear import LinearItemModel
from training.models.ranking_features import RankingFeatures
from training.models.retrieval import Retrieval, Retrieved
from training.models.statistics import ItemStatistics
from training.models.two_tower import TwoTowerScorer
from training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class BaseModels:
    """The models that retrieval and the ranker's features share, all fitted on the same events."""

    two_tower: TwoTowerScorer
    ease: LinearItemModel
    sequential: LinearItemModel
    statistics: ItemStatistics

    @property
    def retrieval(self) -> Retrieval:
        return Retrieval(self.two_tower, self.ease, self.sequential, self.statistics)

    @property
    def features(self) -> RankingFeatures:
        return RankingFeatures(self.two_tower, self.ease, self.sequential, self.statistics)


@dataclass(frozen=True, slots=True)
class Lists:
    """Attributes:
    ranking: of the events whose item was retrieved.
    retrieved: source → the scores of all it brought, and which of them were the items taken.
    """

    ranking: RankingLists
    retrieved: Mapping[str, tuple[Float32, Mask]]

    def fit_blend(self, quotas: Mapping[str, int]) -> Blend:
        return fit_blend(self.retrieved, quotas)


def build_lists(models: BaseModels, data: Dataset, positions: Int64, recipe: Recipe) -> Lists:
    """Lists of at most `recipe.lists` of these events, drawn at random, in their order. In a list the item
    taken stands first, candidates drawn at random from what was retrieved with it follow.

    Raises:
        DataError: for none of the events was its item retrieved.
    """
    rng = np.random.default_rng(recipe.seed)
    chosen = np.sort(rng.permutation(positions)[: recipe.lists])
    retrieval, features = models.retrieval, models.features
    width = len(features.names)
    rows = np.zeros((len(chosen), recipe.list_size, width), np.float32)
    present = np.zeros((len(chosen), recipe.list_size), bool)
    brought: dict[str, list[Retrieved]] = {}
    for row, position in enumerate(chosen.tolist()):
        history, known, now = data.history(position), data.user_features[position], data.now(position)
        free = allowed(data.n_items, data.hidden(position))
        found = retrieval.retrieve(history, known, now, free, recipe.sizes)
        for source, one in found.items():
            brought.setdefault(source, []).append(one)
        target = data.events.item_index[position]
        others = union(found)
        if target not in others:
            continue
        others = rng.permutation(others[others != target])[: recipe.list_size - 1]
        items = np.concatenate(([target], others)).astype(np.int32)
        rows[row, : len(items)] = features.compute(history, known, now, items)
        present[row, : len(items)] = True
    kept = present[:, 0]
    if not kept.any():
        raise DataError(
            f"retrieval found the item of none of the {len(chosen):,} newest training events: users choose "
            "without a pattern, or what they met before and --seen exclude hides"
        )
    targets = data.events.item_index[chosen]
    return Lists(
        RankingLists(features.names, rows[kept], present[kept]),
        {source: _labelled(found, targets) for source, found in brought.items()},
    )


def allowed(n_items: int, hidden: Int32) -> Mask:
    """bool [n]: all items but these."""
    mask = np.ones(n_items, bool)
    mask[hidden] = False
    return mask


def union(found: Mapping[str, Retrieved]) -> Int32:
    """int32 [m], ascending: the items that any source brought."""
    return np.unique(np.concatenate([items for items, _ in found.values()]))


def _labelled(found: list[Retrieved], targets: Int32) -> tuple[Float32, Mask]:
    taken = np.concatenate([items == target for (items, _), target in zip(found, targets, strict=True)])
    return np.concatenate([scores for _, scores in found]), taken
