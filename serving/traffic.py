"""Which bundle is in service here: loaded in the background, swapped whole, and the old one kept where the
new one is refused.

Does not belong here: what is loaded (an engine, or the part of a bundle that one stage needs).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from serving.errors import ServingError

log = logging.getLogger(__name__)


class OtherBundle(ServingError):
    """A request composed for a bundle that this replica does not hold. Its indices mean other items here."""


class Versioned(Protocol):
    @property
    def version(self) -> str: ...


V = TypeVar("V", bound=Versioned)


@dataclass
class InService(Generic[V]):
    """One holder, used from one event loop.

    Attributes:
        load: url → what serves it. It must not block the event loop, and raises to refuse.
        swapped: told what serves from now on.
        refused: told why a bundle was not taken.
    """

    load: Callable[[str], Awaitable[V]]
    swapped: Callable[[V], None] = lambda _: None
    refused: Callable[[Exception], None] = lambda _: None
    current: V | None = None
    _previous: V | None = field(default=None, repr=False)
    _loading: asyncio.Task[None] | None = field(default=None, repr=False)

    async def put(self, url: str) -> None:
        """Puts the bundle at `url` into service. The first is waited for, and its refusal is raised: there is
        nothing to serve instead. Later ones load in the background; the newest call wins."""
        if self.current is None:
            self._swap(await self.load(url))
            return
        if self._loading is not None:
            self._loading.cancel()
        self._loading = asyncio.create_task(self._replace(url))

    def of(self, version: str) -> V:
        """What serves this version: the current one or, while callers still move over, the one before.

        Raises:
            OtherBundle: neither.
        """
        for held in (self.current, self._previous):
            if held is not None and held.version == version:
                return held
        holds = "nothing" if self.current is None else self.current.version
        raise OtherBundle(f"asked for bundle {version}, but this replica holds {holds}")

    async def settled(self) -> None:
        """Returns when nothing is being loaded."""
        while self._loading is not None and not self._loading.done():
            await asyncio.wait([self._loading])

    async def _replace(self, url: str) -> None:
        try:
            self._swap(await self.load(url))
        except Exception as error:
            log.error("bundle %s refused, the one in service stays: %s", url, error)
            self.refused(error)

    def _swap(self, new: V) -> None:
        if self.current is None or self.current.version != new.version:
            self._previous = self.current
        self.current = new
        log.warning("bundle %s is in service", new.version)
        self.swapped(new)
