"""Which bundles are in service here, and which of them answers whom: loaded in the background, swapped as one
table, and the old table kept whole where any bundle of the new one is refused.

Does not belong here: what is loaded (an engine, or the part of a bundle that one stage needs), and shadows'
work (`serving.traffic.shadow`).
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Generic, Literal, Protocol, TypeVar

import mmh3

from serving.config import Traffic
from serving.errors import ServingError

log = logging.getLogger(__name__)

BUCKETS = 10_000
"""Parts that users fall into by hash: 100 for one percent."""


class OtherBundle(ServingError):
    """A request composed for a bundle that this replica does not hold. Its indices mean other items here."""


class SameBundle(ServingError):
    """Two URLs of one traffic hold the same bundle: their answers and metrics could not be told apart."""


class Versioned(Protocol):
    @property
    def version(self) -> str: ...


V = TypeVar("V", bound=Versioned)


def bucket(key: str) -> int:
    """0 to 9,999; MurmurHash3 (Appleby 2011), so that every replica agrees, on any platform."""
    return mmh3.hash(key, signed=False) % BUCKETS


@dataclass(frozen=True, slots=True)
class Table(Generic[V]):
    """One traffic with everything it names loaded. Canaries take the buckets from 0 upward in their order and
    production takes the rest, so whom a canary answers it keeps while its weight grows.

    Attributes:
        held: what serves each entry of `traffic`.
        _routes: canaries, then production; canary i answers the buckets below `_below[i]`.
    """

    traffic: Traffic
    held: tuple[V, ...]
    _routes: tuple[V, ...]
    _below: tuple[int, ...]

    @classmethod
    def of(cls, traffic: Traffic, held: Sequence[V]) -> Table[V]:
        canaries = [
            (entry.weight, each)
            for entry, each in zip(traffic.traffic[1:], held[1:], strict=True)
            if not entry.shadow
        ]
        below = accumulate(weight * BUCKETS // 100 for weight, _ in canaries)
        return cls(traffic, tuple(held), (*(each for _, each in canaries), held[0]), tuple(below))

    @property
    def production(self) -> V:
        return self.held[0]

    @property
    def shadows(self) -> tuple[V, ...]:
        return tuple(
            each for entry, each in zip(self.traffic.traffic, self.held, strict=True) if entry.shadow
        )

    def choose(self, key: str) -> V:
        """What answers whoever has this key (a user's id)."""
        if not self._below:
            return self._routes[0]
        return self._routes[bisect_right(self._below, bucket(key))]

    def at(self, url: str) -> V | None:
        """What was loaded from this URL."""
        return next((v for u, v in zip(self.traffic.bundles, self.held, strict=True) if u == url), None)

    def of_version(self, version: str) -> V | None:
        return next((each for each in self.held if each.version == version), None)


@dataclass(frozen=True, slots=True)
class State:
    """How far this replica is with one bundle; a refused one has an `error`, one that serves a `version`."""

    state: Literal["serving", "loading", "refused"]
    version: str | None = None
    error: str | None = None


@dataclass
class InService(Generic[V]):
    """One holder, used from one event loop.

    Attributes:
        load: url → what serves it. It must not block the event loop, and raises to refuse.
        swapped: told what serves from now on.
        refused: told why a traffic was not taken.
        told: called after either.
    """

    load: Callable[[str], Awaitable[V]]
    swapped: Callable[[Table[V]], None] = lambda _: None
    refused: Callable[[Exception], None] = lambda _: None
    told: Callable[[], None] = lambda: None
    table: Table[V] | None = None
    desired: Traffic | None = None
    _before: Table[V] | None = field(default=None, repr=False)
    _loads: dict[str, asyncio.Task[V]] = field(default_factory=dict, repr=False)
    _errors: dict[str, str] = field(default_factory=dict, repr=False)
    _replacing: asyncio.Task[None] | None = field(default=None, repr=False)
    _counted: bool = field(default=True, repr=False)

    async def begin(self, traffic: Traffic) -> None:
        """Puts a first traffic into service, and waits for it. It must bring production; where another bundle
        is refused production serves alone, so that a bad canary does not keep new replicas from starting.

        Raises:
            Exception: production was refused.
        """
        self._want(traffic)
        await self._begin(traffic)

    def offer(self, traffic: Traffic, *, again: bool = False) -> None:
        """Puts a traffic into service in the background, and reports where it is refused. What is loaded
        already is not loaded again, and the newest call wins.

        Args:
            again: it was refused before; the reasons stay known until it is taken.
        """
        errors = self._errors
        self._want(traffic)
        if again:
            self._errors = errors
        self._counted = not again
        self._replacing = asyncio.create_task(self._offered(traffic))

    def of(self, version: str) -> V:
        """What serves this version, in the table in service or, while callers still move over, in the one
        before.

        Raises:
            OtherBundle: neither holds it.
        """
        for table in (self.table, self._before):
            if table is not None and (held := table.of_version(version)) is not None:
                return held
        holds = "nothing" if self.table is None else ", ".join(each.version for each in self.table.held)
        raise OtherBundle(f"asked for bundle {version}, but this replica holds {holds}")

    def state(self, url: str) -> State:
        if self.table is not None and (held := self.table.at(url)) is not None:
            return State("serving", version=held.version)
        if url in self._errors:
            return State("refused", error=self._errors[url])
        return State("loading")

    @property
    def refusals(self) -> Mapping[str, str]:
        """URL → why it is not in service."""
        held = () if self.table is None else self.table.traffic.bundles
        return {url: error for url, error in self._errors.items() if url not in held}

    @property
    def taken(self) -> bool:
        """Whether what is desired is in service, all of it."""
        return self.table is not None and self.table.traffic == self.desired

    @property
    def idle(self) -> bool:
        """Nothing is being loaded."""
        return self._replacing is None or self._replacing.done()

    async def settled(self) -> None:
        """Returns when nothing is being loaded."""
        while self._replacing is not None and not self._replacing.done():
            await asyncio.wait([self._replacing])

    def _want(self, traffic: Traffic) -> None:
        self.desired, self._errors = traffic, {}
        self._forget_loads(keep=traffic.bundles)
        if self._replacing is not None:
            self._replacing.cancel()

    async def _offered(self, traffic: Traffic) -> None:
        try:
            await (self._begin(traffic) if self.table is None else self._take(traffic))
        except Exception as error:
            self._refuse(traffic, error)

    async def _begin(self, traffic: Traffic) -> None:
        try:
            await self._take(traffic)
        except Exception as error:
            production = traffic.bundles[0]
            if production in self._errors:
                raise
            await self._take(Traffic.of(production))
            self._refuse(traffic, error)

    async def _take(self, traffic: Traffic) -> None:
        self._swap(Table.of(traffic, await self._every(traffic)))

    async def _every(self, traffic: Traffic) -> tuple[V, ...]:
        """One after another: loading takes memory and a core, and requests go on meanwhile."""
        held: dict[str, V] = {}
        for url in traffic.bundles:
            try:
                each = await self._at(url)
                if each.version in held:
                    raise SameBundle(f"{url} holds bundle {each.version}, which is in the traffic already")
            except Exception as error:
                self._errors[url] = str(error)
                raise
            held[each.version] = each
            self._errors.pop(url, None)  # of an earlier try
        return tuple(held.values())

    async def _at(self, url: str) -> V:
        for table in (self.table, self._before):
            if table is not None and (held := table.at(url)) is not None:
                return held
        if url not in self._loads:
            self._loads[url] = asyncio.ensure_future(self.load(url))
        # A newer call that wants this bundle too goes on waiting for the same load.
        return await asyncio.shield(self._loads[url])

    def _forget_loads(self, keep: Sequence[str] = ()) -> None:
        for url in self._loads.keys() - set(keep):
            self._loads.pop(url).cancel()

    def _refuse(self, traffic: Traffic, error: Exception) -> None:
        log.error("traffic refused, what is in service stays: %s", error)
        self._errors = dict.fromkeys(traffic.bundles, f"not taken: {error}") | self._errors
        self._forget_loads()
        if self._counted:  # once for each traffic, however often it is tried
            self.refused(error)
        self.told()

    def _swap(self, new: Table[V]) -> None:
        """Other weights alone leave the table before where it is: its bundles may still be asked for."""
        if self.table is None or _versions(self.table) != _versions(new):
            self._before = self.table
        self.table = new
        self._forget_loads()
        parts = zip(new.traffic.traffic, new.held, strict=True)
        told = ", ".join(f"{v.version} {'shadow' if e.shadow else f'{e.weight}%'}" for e, v in parts)
        log.warning("in service: %s", told)
        self.swapped(new)
        self.told()


def _versions(table: Table[V]) -> set[str]:
    return {each.version for each in table.held}
