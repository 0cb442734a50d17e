"""One bundle in service: its catalogue and the pipelines over it. Swapped as a whole, never changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from serving.pipeline import Pipeline
from training.catalogue import Catalogue
from training.feedback import Feedback


@dataclass(frozen=True, slots=True)
class Engine:
    """Attributes:
    bundle: the bundle's name.
    version: its version.
    pipelines: by name; "recommend", "similar" and "rank" are what HTTP asks for.
    feedback: what events mean to it.
    trained_at: when the bundle was made, unix seconds.
    """

    bundle: str
    version: str
    catalogue: Catalogue
    pipelines: Mapping[str, Pipeline]
    trained_at: float = 0.0
    feedback: Feedback = field(default_factory=Feedback)

    def pipeline(self, name: str) -> Pipeline:
        """Raises KeyError where the bundle declares none of this name."""
        return self.pipelines[name]

    @property
    def recommend(self) -> Pipeline:
        """A user's or a session's recommendations."""
        return self.pipelines["recommend"]

    @property
    def similar(self) -> Pipeline:
        """Items similar to `query.items[0]`."""
        return self.pipelines["similar"]

    @property
    def rank(self) -> Pipeline:
        """`query.items` in the order this user would want them."""
        return self.pipelines["rank"]

    def with_pipeline(self, name: str, pipeline: Pipeline) -> Engine:
        """The same with another pipeline of this name."""
        return replace(self, pipelines={**self.pipelines, name: pipeline})

    def with_pipelines(self, change: Callable[[Pipeline], Pipeline]) -> Engine:
        """The same with each pipeline changed."""
        return replace(self, pipelines={name: change(each) for name, each in self.pipelines.items()})
