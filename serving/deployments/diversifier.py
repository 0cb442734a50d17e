"""Diversity on replicas of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.config import ServeConfig
from serving.deployments.shell import Shell
from serving.observe.tracing import continued
from serving.stages import Selector
from serving.types import CandidateBatch, Query
from training.bundle import Bundle


class Diversifier(Shell[Selector]):
    def _build(self, bundle: Bundle, config: ServeConfig) -> Selector:
        from serving.assemble import build_selector

        return build_selector(bundle, config)

    @continued
    async def select(self, version: str, query: Query, batch: CandidateBatch) -> NDArray[np.intp]:
        """Row indices of `batch`, in the order to show them."""
        return await self._stage(version).select(query, batch)
