"""From a bundle to an engine: which stages there are, in what order they stand, and where they run.

A stage that runs on other replicas is known here by its class alone, and none of its models is read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar, cast

from features.store import OnlineStore
from serving.cache import LatestAnswers
from serving.columns import RankingHydrator
from serving.config import ServeConfig
from serving.diversity.mmr import MMRSelector
from serving.engine import Engine
from serving.explain.attribution import RankerExplainer
from serving.expressions import CatalogueFilter
from serving.filters import DuplicateFilter, Eligibility, EligibleFilter, hidden, not_itself
from serving.hydrators import UserHydrator
from serving.observe.metrics import NullRecorder, Recorder
from serving.pipeline import Pipeline
from serving.program import Here, Runner
from serving.ranking.ranker import AdditiveScorer
from serving.retrieval.ann import APPROXIMATE_FROM, choose_index
from serving.retrieval.blend import CalibratedBlender, Cascade
from serving.retrieval.named import NamedItems
from serving.retrieval.similar import SimilarByBehaviour, SimilarByContent
from serving.retrieval.sources import ModelSource, PopularSource, VectorSource
from serving.runtime.factory import runtime
from serving.runtime.protocol import Runtime
from serving.runtime_options import RuntimeName, RuntimeOptions
from serving.stages import Blender, Explainer, Scorer, Selector, Source
from serving.steps import DIVERSIFYING, EXPLAINING, RANKING, RETRIEVAL
from training.bundle import Bundle, BundleError
from training.models.blend import Blend
from training.models.linear import LinearItemModel
from training.models.ranker import AdditiveRanker
from training.models.ranking_features import NAMES
from training.models.scores import BaseModels
from training.models.statistics import ItemStatistics
from training.models.two_tower.model import TwoTowerScorer

T = TypeVar("T")

STAGES = (RETRIEVAL, RANKING, DIVERSIFYING, EXPLAINING)

Elsewhere = Mapping[str, Runner]
"""Stage → the replicas that run it."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the stages of an engine's pipelines run.

    Attributes:
        stages: those that run in this process.
        runner: how they do.
        elsewhere: pipeline → its other stages.
    """

    stages: Collection[str] = STAGES
    runner: Runner = field(default_factory=Here)
    elsewhere: Callable[[str], Elsewhere] = lambda pipeline: {}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A stage that runs elsewhere: what its class says of it."""

    kind: type[Any]
    name: str

    @property
    def personal(self) -> bool:
        personal: bool = self.kind.personal
        return personal

    def takes(self, queries: Any) -> Any:
        return self.kind.takes(queries)


class Models:
    """A bundle's models, each made from its component when first asked for."""

    def __init__(self, bundle: Bundle, networks: Runtime) -> None:
        self._bundle, self._networks = bundle, networks

    @cached_property
    def two_tower(self) -> TwoTowerScorer:
        component, version = self._bundle.component("two_tower"), self._bundle.manifest.version
        network = self._networks.network(component, "two_tower", version, TwoTowerScorer.NETWORK)
        return TwoTowerScorer.from_component(component, network)

    @cached_property
    def base(self) -> BaseModels:
        component = self._bundle.component
        return BaseModels.of(
            self.two_tower,
            LinearItemModel.from_component(component("ease")),
            LinearItemModel.from_component(component("sequential")),
            ItemStatistics.from_component(component("statistics")),
        )

    @cached_property
    def ranker(self) -> AdditiveRanker:
        """Raises BundleError where it was trained on other features: rows would be misread."""
        ranker = AdditiveRanker.from_component(self._bundle.component("ranker"))
        if not set(ranker.names) <= set(NAMES):
            raise BundleError("the bundle's ranker reads other features than this version makes; train again")
        return ranker

    @cached_property
    def blend(self) -> Blend:
        return Blend.from_component(self._bundle.component("blend"))


class _Stages:
    """The stages of a bundle: made where they run here, else a `Proxy`."""

    def __init__(self, bundle: Bundle, config: ServeConfig, here: Collection[str], networks: Runtime) -> None:
        self.rules = CatalogueFilter(bundle.catalogue)
        self.eligibility = Eligibility(self.rules)
        self._bundle, self._config, self._here = bundle, config, here
        self._models = Models(bundle, networks)

    def _placed(self, stage: str, kind: type[Any], name: str, make: Callable[[], T]) -> T:
        return make() if stage in self._here else cast(T, Proxy(kind, name))

    @cached_property
    def hydrator(self) -> RankingHydrator:
        return RankingHydrator(self._models.base)

    def sources(self) -> tuple[Source, ...]:
        limits, models = self._config.retrieval, self._models

        def of_model(name: str, limit: int) -> Source:
            return self._placed(
                RETRIEVAL, ModelSource, name, lambda: ModelSource(name, models.base, self.eligibility, limit)
            )

        return (
            self._placed(RETRIEVAL, ModelSource, "two_tower", self._nearest),
            of_model("ease", limits.ease),
            of_model("sequential", limits.sequential),
            self._placed(
                RETRIEVAL,
                PopularSource,
                "popular",
                lambda: PopularSource(models.base.statistics, self.eligibility, limits.popular),
            ),
        )

    def _nearest(self) -> Source:
        base, limit = self._models.base, self._config.retrieval.two_tower
        if base.n_items < APPROXIMATE_FROM:
            return ModelSource("two_tower", base, self.eligibility, limit)
        return VectorSource(
            "two_tower", base, choose_index(base.two_tower.item_vectors), self.eligibility, limit
        )

    def blender(self, sources: tuple[Source, ...]) -> Blender:
        names, limit = tuple(source.name for source in sources), self._config.retrieval.candidates
        return self._placed(
            RETRIEVAL,
            CalibratedBlender,
            CalibratedBlender.name,
            lambda: CalibratedBlender(self._models.blend, names, limit),
        )

    def similar(self) -> tuple[Source, ...]:
        limit = self._config.retrieval.similar
        return (
            self._placed(
                RETRIEVAL,
                SimilarByBehaviour,
                "behaviour",
                lambda: SimilarByBehaviour(self._models.base.linear["ease"], self.eligibility, limit),
            ),
            self._placed(
                RETRIEVAL,
                SimilarByContent,
                SimilarByContent.name,
                lambda: SimilarByContent(self._bundle.catalogue.features, self.eligibility, limit),
            ),
        )

    def named(self) -> Source:
        return self._placed(RETRIEVAL, NamedItems, "named", lambda: NamedItems(self._models.base.statistics))

    def scorer(self) -> Scorer:
        return self._placed(RANKING, AdditiveScorer, "additive", lambda: AdditiveScorer(self._models.ranker))

    def hydrators(self) -> tuple[RankingHydrator, ...]:
        return (self.hydrator,) if RANKING in self._here else ()

    def selector(self) -> Selector:
        pool = self._config.diversity.pool
        return self._placed(
            DIVERSIFYING,
            MMRSelector,
            MMRSelector.name,
            lambda: MMRSelector(self._models.two_tower.item_vectors, pool),
        )

    def explainer(self) -> Explainer:
        return self._placed(EXPLAINING, RankerExplainer, RankerExplainer.name, self._explainer)

    def _explainer(self) -> Explainer:
        linear = self._models.base.linear
        return RankerExplainer(
            self.hydrator,
            self._models.ranker,
            {"together": linear["ease"], "next": linear["sequential"]},
            self._bundle.catalogue.titles,
            self._config.explain.contributions,
            self._bundle.manifest.feedback,
        )


def compose(
    bundle: Bundle,
    store: OnlineStore | None,
    config: ServeConfig,
    recorder: Recorder | None = None,
    placement: Placement | None = None,
    networks: Runtime | None = None,
) -> Engine:
    """The three pipelines of a bundle.

    Args:
        store: of users' features; None where requests are not begun here.
        placement: by default all stages run on the caller's thread.
        networks: computes the models' networks; by default ONNX Runtime.
    """
    placement = placement or Placement()
    networks = networks or runtime(RuntimeName.ONNX, RuntimeOptions())
    stages = _Stages(bundle, config, placement.stages, networks)

    def pipeline(name: str, **given: Any) -> Pipeline:
        return Pipeline(
            user_width=bundle.schema.user_width,
            budgets=config.budgets,
            batching=config.batching,
            recorder=recorder or NullRecorder(),
            admit=lambda query: stages.rules.mask(query.filter),
            cache=LatestAnswers(config.cache) if config.cache.items and store is not None else None,
            here=placement.runner,
            runners=placement.elsewhere(name),
            **given,
        )

    manifest = bundle.manifest
    user = None if store is None else UserHydrator(store, bundle.schema, bundle.catalogue, manifest.feedback)
    checked = (DuplicateFilter(), EligibleFilter(stages.eligibility))
    ranked = {
        "hydrators": stages.hydrators(),
        "scorer": stages.scorer(),
        "explainer": stages.explainer(),
    }
    sources = stages.sources()
    return Engine(
        bundle=manifest.name,
        version=manifest.version,
        catalogue=bundle.catalogue,
        recommend=pipeline(
            "recommend",
            hidden=hidden,
            query_hydrator=user,
            sources=sources,
            blender=stages.blender(sources),
            filters=checked,
            selector=stages.selector(),
            **ranked,
        ),
        similar=pipeline(
            "similar", hidden=not_itself, sources=stages.similar(), blender=Cascade(), filters=checked
        ),
        rank=pipeline(
            "rank",
            hidden=lambda query: query.items[:0],
            query_hydrator=user,
            sources=(stages.named(),),
            blender=Cascade(),
            **ranked,
        ),
        trained_at=datetime.fromisoformat(manifest.created).timestamp(),
        feedback=manifest.feedback,
    )
