"""A ranker of any kind as a scorer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from serving.batch import Candidates, Queries
from serving.columns import rows_of
from serving.parts import Options, Parts
from serving.types import Float32, Mask
from training.bundle import BundleError
from training.models.ranker import Ranker
from training.models.ranking_features import NAMES
from training.spec import PipelineSpec, StageSpec


@dataclass(frozen=True, slots=True)
class RankerScorer:
    """Is not for users without a history: it was trained on none, and popularity serves them better."""

    ranker: Ranker
    name: str = "ranker"
    MODELS: ClassVar[Mapping[str, type]] = {"ranker": Ranker}
    REQUIRES: ClassVar[tuple[str, ...]] = NAMES

    @classmethod
    def build(cls, spec: StageSpec, parts: Parts, pipeline: PipelineSpec) -> RankerScorer:
        """Raises BundleError where the ranker reads other columns than the stage requires."""
        Options.of(spec)
        ranker: Ranker = parts.model(spec, "ranker")
        if unknown := sorted(set(ranker.names) - set(spec.requires)):
            raise BundleError(
                f"stage {spec.name!r}: its ranker reads {', '.join(unknown)}, which the stage does not "
                "require; train again"
            )
        return cls(ranker, spec.name)

    @property
    def requires(self) -> tuple[str, ...]:
        return self.ranker.names

    @staticmethod
    def takes(queries: Queries) -> Mask:
        return queries.with_history

    def score(self, queries: Queries, candidates: Candidates) -> Float32:
        return self.ranker.score(rows_of(candidates, self.ranker.names))
