"""The protocol of runtimes.

`tests/serving/runtime` holds each to it: equal within 1e-3, the same top 10, a batch equals its singles.
"""

from __future__ import annotations

from typing import Protocol

from training.bundle import Component
from training.models.network import Network


class Runtime(Protocol):
    """Makes networks from a bundle's components."""

    def network(self, component: Component, name: str, version: str, module: str) -> Network:
        """A network that is ready to be called.

        Args:
            name: of the component. version: of the bundle.
            module: of the family's arithmetic (`NETWORK` of its model), for a runtime that computes it in
                torch.

        Raises:
            RuntimeUnavailable: it cannot be computed here.
        """
        ...

    def close(self) -> None:
        """Gives up connections and threads; networks made before fail from then on."""
        ...


class RuntimeUnavailable(Exception):
    """A network cannot be computed by this runtime; the text says why and what to do."""
