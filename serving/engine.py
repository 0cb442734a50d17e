"""One bundle in service: its catalogue and the three pipelines over it. Swapped as a whole, never changed."""

from __future__ import annotations

from dataclasses import dataclass, field

from serving.pipeline import Pipeline
from training.catalogue import Catalogue
from training.feedback import Feedback


@dataclass(frozen=True, slots=True)
class Engine:
    """Attributes:
    bundle: the bundle's name.
    version: its version.
    recommend: a user's or a session's recommendations.
    similar: items similar to `query.items[0]`.
    rank: `query.items` in the order this user would want them.
    feedback: what events mean to it.
    trained_at: when the bundle was made, unix seconds.
    """

    bundle: str
    version: str
    catalogue: Catalogue
    recommend: Pipeline
    similar: Pipeline
    rank: Pipeline
    trained_at: float = 0.0
    feedback: Feedback = field(default_factory=Feedback)

    def pipeline(self, name: str) -> Pipeline:
        """By its field's name."""
        found: Pipeline = getattr(self, name)
        return found
