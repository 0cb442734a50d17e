"""Explanation on replicas of its own. The class is named for its stage's protocol with its place added."""

from __future__ import annotations

from serving.config import ServeConfig
from serving.deployments.shell import Shell
from serving.observe.tracing import continued
from serving.stages import Explainer
from serving.types import CandidateBatch, Explanation, Query
from training.bundle import Bundle


class ExplainerReplica(Shell[Explainer]):
    def _build(self, bundle: Bundle, config: ServeConfig) -> Explainer:
        from serving.assemble import build_explainer

        return build_explainer(bundle, config)

    @continued
    async def explain(self, version: str, query: Query, batch: CandidateBatch) -> tuple[Explanation, ...]:
        """One explanation for each row; the features are computed again where the batch has none."""
        return await self._stage(version).explain(query, batch)
