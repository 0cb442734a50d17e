"""How the built-in kinds of models are fitted: what each takes in a recipe, and its fit.

Those of single events have `fit(data, events, options)`, as a kind of another package has. The two-tower is
fitted by workers on Ray (`training.loop`), the blend and the ranker from ranking lists
(`training.candidates`) by `fit_lists(lists, options, recipe)`, which returns the model itself. torch is
imported by a fit alone, so that a recipe is checked in milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from training.bundle import Component
from training.models.arrays import Int64
from training.models.dcn.options import DcnOptions
from training.models.linear import DENSE_ITEMS, LinearItemModel
from training.models.neighbours import NeighbourModel
from training.models.statistics import ItemStatistics
from training.spec import Options

if TYPE_CHECKING:
    from training.candidates import Lists
    from training.dataset import Dataset
    from training.models.blend import Blend
    from training.models.dcn.model import DcnRanker
    from training.models.ranker import AdditiveRanker
    from training.recipe import Recipe


class TwoTower:
    class Settings(Options):
        epochs: PositiveInt
        batch: PositiveInt
        examples: PositiveInt
        learning_rate: PositiveFloat
        weight_decay: NonNegativeFloat
        warmup: Annotated[float, Field(gt=0, lt=1)]


class Ease:
    class Settings(Options):
        half_life: PositiveFloat

    @staticmethod
    def fit(data: Dataset, events: Int64, options: Settings) -> Component:
        known = data.subset(events)
        if data.n_items > DENSE_ITEMS:
            from training.fit.neighbours import fit_markov_field, neighbourhoods

            pattern = neighbourhoods(known.offsets, known.item_index, data.n_items)
            field = fit_markov_field(known.offsets, known.item_index, pattern)
            return NeighbourModel.of(*field, options.half_life).to_component()
        from training.fit.linear import fit_ease

        weights = fit_ease(known.offsets, known.item_index, data.n_items)
        return LinearItemModel.of(weights, options.half_life).to_component()


class Sequential:
    Settings = Ease.Settings

    @staticmethod
    def fit(data: Dataset, events: Int64, options: Ease.Settings) -> Component:
        known = data.subset(events)
        if data.n_items > DENSE_ITEMS:
            from training.fit.neighbours import fit_successors, neighbourhoods

            pattern = neighbourhoods(known.offsets, known.item_index, data.n_items)
            successors = fit_successors(known.offsets, known.item_index, pattern)
            return NeighbourModel.of(*successors, options.half_life).to_component()
        from training.fit.linear import fit_sequential

        weights = fit_sequential(known.offsets, known.item_index, data.n_items)
        return LinearItemModel.of(weights, options.half_life).to_component()


class Statistics:
    @staticmethod
    def fit(data: Dataset, events: Int64, options: Options) -> Component:
        known = data.subset(events)
        statistics = ItemStatistics.from_events(known.item_index, known.value, known.timestamp, data.n_items)
        return statistics.to_component()


class CalibratedBlend:
    @staticmethod
    def fit_lists(lists: Lists, options: Options, recipe: Recipe) -> Blend:
        return lists.fit_blend(recipe.quotas)


class Additive:
    @staticmethod
    def fit_lists(lists: Lists, options: Options, recipe: Recipe) -> AdditiveRanker:
        from training.fit.ranker import fit_ranker

        return fit_ranker(lists.ranking, seed=recipe.seed)


class Dcn:
    Settings = DcnOptions

    @staticmethod
    def fit_lists(lists: Lists, options: DcnOptions, recipe: Recipe) -> DcnRanker:
        from training.models.dcn.estimator import fit_dcn

        return fit_dcn(lists.ranking, options, recipe.seed)
