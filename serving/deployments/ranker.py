"""Ranking on replicas of its own: features are computed where they are scored, and only scores go back."""

from __future__ import annotations

from dataclasses import dataclass

from serving.config import ServeConfig
from serving.deployments.shell import Shell
from serving.errors import InvariantViolation
from serving.observe.tracing import continued
from serving.stages import Hydrator, Scorer
from serving.types import CandidateBatch, Float32, Query
from training.bundle import Bundle


@dataclass(frozen=True, slots=True)
class Ranking:
    hydrators: tuple[Hydrator, ...]
    scorer: Scorer

    async def scores(self, query: Query, batch: CandidateBatch) -> Float32:
        for hydrator in self.hydrators:
            if hydrator.enabled(query):
                batch = await hydrator.hydrate(query, batch)
        score = (await self.scorer.score(query, batch)).score
        if score is None:
            raise InvariantViolation(f"{self.scorer.name} set no score")
        return score


class Ranker(Shell[Ranking]):
    def _build(self, bundle: Bundle, config: ServeConfig) -> Ranking:
        from serving.assemble import build_ranker

        return Ranking(*build_ranker(bundle, config))

    @continued
    async def score(self, version: str, query: Query, batch: CandidateBatch) -> Float32:
        """float32 [n], the scores of the batch's rows."""
        return await self._stage(version).scores(query, batch)
