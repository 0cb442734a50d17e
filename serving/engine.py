"""One bundle in service: its catalogue and the three pipelines over it. Swapped as a whole, never changed."""

from __future__ import annotations

from dataclasses import dataclass

from serving.pipeline import RecommendationPipeline
from training.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class Engine:
    """Attributes:
    bundle: the bundle's name.
    version: its version.
    trained: when it was made, unix seconds.
    recommend: a user's or a session's recommendations.
    similar: items similar to `query.items[0]`.
    rank: `query.items` in the order this user would want them.
    """

    bundle: str
    version: str
    trained: float
    catalogue: Catalogue
    recommend: RecommendationPipeline
    similar: RecommendationPipeline
    rank: RecommendationPipeline
