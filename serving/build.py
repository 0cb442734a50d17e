"""From what a bundle declares to an engine: its pipelines, of stages that run here or elsewhere.

Knows no kind of stage or model by name. A stage that runs on other replicas is known here by its class alone,
and none of its models is read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from features.store import OnlineStore
from serving.cache import LatestAnswers
from serving.config import ServeConfig
from serving.eligibility import HIDDEN
from serving.engine import Engine
from serving.hydrators import UserHydrator
from serving.observe.metrics import NullRecorder, Recorder
from serving.parts import Parts
from serving.pipeline import Pipeline
from serving.program import Here, Runner
from serving.runtime.factory import runtime
from serving.runtime.protocol import Runtime
from serving.runtime_options import RuntimeName, RuntimeOptions
from serving.steps import DIVERSIFYING, EXPLAINING, RANKING, RETRIEVAL
from training.bundle import Bundle, BundleError
from training.registry import STAGES as KINDS
from training.registry import UnknownKindError
from training.spec import METHODS, PIPELINES, PipelineSpec, Role, StageSpec

STAGES = (RETRIEVAL, RANKING, DIVERSIFYING, EXPLAINING)

PLACES: Mapping[Role, str] = {
    "source": RETRIEVAL,
    "blender": RETRIEVAL,
    "filter": RETRIEVAL,
    "hydrator": RANKING,
    "scorer": RANKING,
    "selector": DIVERSIFYING,
    "explainer": EXPLAINING,
}
"""Role → the stage of a configuration's groups that it belongs to."""

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


def compose(
    bundle: Bundle,
    store: OnlineStore | None,
    config: ServeConfig,
    recorder: Recorder | None = None,
    placement: Placement | None = None,
    networks: Runtime | None = None,
) -> Engine:
    """The pipelines of a bundle.

    Args:
        store: of users' features; None where requests are not begun here.
        placement: by default all stages run on the caller's thread.
        networks: computes the models' networks; by default ONNX Runtime.

    Raises:
        BundleError: a kind, a component, a column or a pipeline is missing; the text names it.
    """
    placement = placement or Placement()
    networks = networks or runtime(RuntimeName.ONNX, RuntimeOptions())
    manifest, declared = bundle.manifest, bundle.declaration.pipelines
    if missing := [name for name in PIPELINES if name not in declared]:
        raise BundleError(f"the bundle declares no pipeline {', '.join(missing)}; train again")
    parts = Parts(bundle, networks)
    user = None if store is None else UserHydrator(store, bundle.schema, bundle.catalogue, manifest.feedback)

    def pipeline(name: str, spec: PipelineSpec) -> Pipeline:
        stages = _stages(spec, parts, placement.stages)
        return Pipeline(
            sources=tuple(stages["source"]),
            blender=stages["blender"][0],
            filters=tuple(stages["filter"]),
            hydrators=tuple(stages["hydrator"]),
            scorer=next(iter(stages["scorer"]), None),
            selector=next(iter(stages["selector"]), None),
            explainer=next(iter(stages["explainer"]), None),
            query_hydrator=user if spec.user else None,
            hidden=HIDDEN[spec.hidden],
            user_width=bundle.schema.user_width,
            budgets=config.budgets,
            batching=config.batching,
            recorder=recorder or NullRecorder(),
            admit=lambda query: parts.rules.mask(query.filter),
            cache=LatestAnswers(config.cache) if config.cache.items and store is not None else None,
            here=placement.runner,
            runners=placement.elsewhere(name),
        )

    try:
        pipelines = {name: pipeline(name, spec) for name, spec in declared.items()}
    except UnknownKindError as error:
        raise BundleError(f"bundle {manifest.version}: {error}") from error
    return Engine(
        bundle=manifest.name,
        version=manifest.version,
        catalogue=bundle.catalogue,
        pipelines=pipelines,
        trained_at=datetime.fromisoformat(manifest.created).timestamp(),
        feedback=manifest.feedback,
    )


def _stages(spec: PipelineSpec, parts: Parts, here: Collection[str]) -> dict[Role, list[Any]]:
    """The pipeline's stages by role, in their order."""
    found: dict[Role, list[Any]] = {role: [] for role in PLACES}
    provided: set[str] = set()
    for stage in spec.stages:
        kind = KINDS.find(stage.kind)
        if not hasattr(kind, METHODS[stage.role]):
            raise BundleError(f"stage {stage.name!r}: {stage.kind} is no {stage.role}; train again")
        if lacking := sorted(set(stage.requires) - provided):
            raise BundleError(
                f"stage {stage.name!r} requires {', '.join(lacking)}, which no stage before it provides; "
                "train again"
            )
        provided.update(getattr(kind, "PROVIDES", ()))
        found[stage.role].append(_made(stage, kind, parts, spec, here))
    return found


def _made(
    stage: StageSpec, kind: type[Any], parts: Parts, spec: PipelineSpec, here: Collection[str]
) -> object:
    if PLACES[stage.role] not in here:
        return Proxy(kind, stage.name)
    made: object = kind.build(stage, parts, spec)
    return made
