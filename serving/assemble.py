"""From a bundle to an engine: which stages there are and in what order they stand.

Each builder makes the stages of one placement; `compose` makes the pipelines. A deployment calls its own
builder only, so that no replica holds a model it does not use.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial

from features.store import OnlineStore
from serving.cache import LatestAnswers
from serving.config import ServeConfig
from serving.diversity.mmr import MMRSelector
from serving.engine import Engine
from serving.explain.attribution import RankerExplainer
from serving.expressions import CatalogueFilter
from serving.filters import (
    DuplicateFilter,
    Eligibility,
    ExpressionFilter,
    HiddenFilter,
    excluded,
    named,
    seen,
)
from serving.hydrators import UserHydrator
from serving.observe.metrics import NullRecorder, Recorder
from serving.pipeline import RecommendationPipeline
from serving.ranking.ranker import AdditiveScorer, RankingHydrator
from serving.retrieval.ann import choose_index
from serving.retrieval.blend import CalibratedBlender, Cascade
from serving.retrieval.eligible import Eligible
from serving.retrieval.linear import LinearSource
from serving.retrieval.named import NamedItems
from serving.retrieval.popular import PopularSource
from serving.retrieval.similar import SimilarByBehaviour, SimilarByContent
from serving.retrieval.two_tower import TwoTowerSource
from serving.reuse import RememberingLinear, RememberingTwoTower
from serving.stages import Explainer, Hydrator, Scorer, Selector, Source, Together
from serving.vectorised import MOST_ITEMS, Vectorised
from training.bundle import Bundle, BundleError
from training.models.blend import Blend
from training.models.linear import LinearItemModel
from training.models.ranker import AdditiveRanker
from training.models.ranking_features import RankingFeatures
from training.models.retrieval import SOURCES
from training.models.statistics import ItemStatistics
from training.models.two_tower import TwoTowerScorer


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages that placement may move; the rest is small and stays with the executor.

    Attributes:
        hydrators: the ranker's features; empty where a remote ranker hydrates by itself.
        vectorised: what the stages compute, for several queries at once; None where one of them runs
            elsewhere, or the catalogue is too large.
    """

    sources: tuple[Source, ...]
    hydrators: tuple[Hydrator, ...]
    scorer: Scorer
    selector: Selector
    explainer: Explainer
    vectorised: Vectorised | None = None


class Models:
    """A bundle's models, each made from its component when first asked for."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    @cached_property
    def two_tower(self) -> TwoTowerScorer:
        return RememberingTwoTower.from_component(self._bundle.component("two_tower"))

    @cached_property
    def ease(self) -> LinearItemModel:
        return RememberingLinear.from_component(self._bundle.component("ease"))

    @cached_property
    def sequential(self) -> LinearItemModel:
        return RememberingLinear.from_component(self._bundle.component("sequential"))

    @cached_property
    def statistics(self) -> ItemStatistics:
        return ItemStatistics.from_component(self._bundle.component("statistics"))

    @cached_property
    def ranker(self) -> AdditiveRanker:
        """Raises BundleError where it was trained on other features: rows would be misread."""
        ranker = AdditiveRanker.from_component(self._bundle.component("ranker"))
        if ranker.names != RankingFeatures.names:
            raise BundleError("the bundle's ranker reads other features than this version makes; train again")
        return ranker

    @cached_property
    def blend(self) -> Blend:
        return Blend.from_component(self._bundle.component("blend"))

    @cached_property
    def ranking_features(self) -> RankingFeatures:
        return RankingFeatures(self.two_tower, self.ease, self.sequential, self.statistics)


def build_sources(bundle: Bundle, config: ServeConfig) -> tuple[Source, ...]:
    return _sources(bundle, Models(bundle), config)


def build_ranker(bundle: Bundle, config: ServeConfig) -> tuple[tuple[Hydrator, ...], Scorer]:
    return _ranker(Models(bundle))


def build_selector(bundle: Bundle, config: ServeConfig) -> Selector:
    return _selector(Models(bundle), config)


def build_explainer(bundle: Bundle, config: ServeConfig) -> Explainer:
    return _explainer(bundle, Models(bundle), config)


def build_stages(bundle: Bundle, config: ServeConfig) -> Stages:
    """Every stage in this process, over one copy of each model."""
    models = Models(bundle)
    hydrators, scorer = _ranker(models)
    return Stages(
        _sources(bundle, models, config),
        hydrators,
        scorer,
        _selector(models, config),
        _explainer(bundle, models, config),
        _vectorised(bundle, models, config),
    )


def compose(
    bundle: Bundle,
    stages: Stages,
    store: OnlineStore,
    config: ServeConfig,
    recorder: Recorder | None = None,
    together: Together | None = None,
) -> Engine:
    """The three pipelines over these stages, wherever they run.

    Args:
        together: recommends to those who wait at the same moment.
    """
    models, rules = Models(bundle), CatalogueFilter(bundle.catalogue)
    pipeline = partial(RecommendationPipeline, budgets=config.budgets, recorder=recorder or NullRecorder())
    kept = partial(LatestAnswers, config.cache) if config.cache.items else lambda: None
    user = UserHydrator(store, bundle.schema, bundle.catalogue, bundle.manifest.feedback)
    always = (DuplicateFilter(), ExpressionFilter(rules), HiddenFilter("excluded", excluded))
    names = tuple(source.name for source in stages.sources)
    unlike = Eligibility(rules, named, excluded).mask
    return Engine(
        bundle=bundle.manifest.name,
        version=bundle.manifest.version,
        catalogue=bundle.catalogue,
        recommend=pipeline(
            cache=kept(),
            together=together,
            query_hydrators=(user,),
            sources=stages.sources,
            blender=CalibratedBlender(models.blend, names, config.retrieval.candidates),
            filters=(*always, HiddenFilter("seen", seen)),
            hydrators=stages.hydrators,
            scorer=stages.scorer,
            selector=stages.selector,
            explainer=stages.explainer,
        ),
        similar=pipeline(
            cache=kept(),
            sources=(
                SimilarByBehaviour(models.ease, unlike, config.retrieval.similar),
                SimilarByContent(bundle.catalogue.features, unlike, config.retrieval.similar),
            ),
            blender=Cascade(),
            filters=(*always, HiddenFilter("named", named)),
        ),
        rank=pipeline(
            cache=kept(),
            query_hydrators=(user,),
            sources=(NamedItems(models.statistics),),
            blender=Cascade(),
            hydrators=stages.hydrators,
            scorer=stages.scorer,
            explainer=stages.explainer,
        ),
        trained_at=datetime.fromisoformat(bundle.manifest.created).timestamp(),
        feedback=bundle.manifest.feedback,
    )


def _sources(bundle: Bundle, models: Models, config: ServeConfig) -> tuple[Source, ...]:
    limits, eligible = config.retrieval, _recommendable(bundle)
    index = choose_index(models.two_tower.item_vectors)
    return (
        TwoTowerSource(models.two_tower, index, eligible, limits.two_tower),
        LinearSource("ease", models.ease, eligible, limits.ease),
        LinearSource("sequential", models.sequential, eligible, limits.sequential),
        PopularSource(models.statistics, eligible, limits.popular),
    )


def _recommendable(bundle: Bundle) -> Eligible:
    return Eligibility(CatalogueFilter(bundle.catalogue), seen, excluded).mask


def _vectorised(bundle: Bundle, models: Models, config: ServeConfig) -> Vectorised | None:
    """None where the catalogue is too large, or the bundle's blend knows other sources than there are."""
    if len(bundle.catalogue) > MOST_ITEMS or models.blend.names != SOURCES:
        return None
    return Vectorised(
        models.two_tower,
        {"ease": models.ease, "sequential": models.sequential},
        models.statistics,
        models.blend,
        models.ranking_features,
        models.ranker,
        _recommendable(bundle),
        config.retrieval,
        config.diversity,
    )


def _ranker(models: Models) -> tuple[tuple[Hydrator, ...], Scorer]:
    return (RankingHydrator(models.ranking_features),), AdditiveScorer(models.ranker)


def _selector(models: Models, config: ServeConfig) -> Selector:
    return MMRSelector(models.two_tower.item_vectors, config.diversity.pool)


def _explainer(bundle: Bundle, models: Models, config: ServeConfig) -> Explainer:
    return RankerExplainer(
        models.ranking_features,
        models.ranker,
        {"together": models.ease, "next": models.sequential},
        bundle.catalogue.titles,
        config.explain.contributions,
        bundle.manifest.feedback,
    )
