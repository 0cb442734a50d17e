"""Those who come at the same moment leave together.

Nobody waits for company that may never come: the moment lasts as long as every turn of the event loop brings
somebody new, which takes the time that the loop works for others anyway. At 32 connections one more look made
the groups whose answers are computed as one twice as large, and 40 % more answers a second. Who is alone pays
for one turn of an idle loop, which was not to be seen in a request's time.

Does not belong here: what is done for those who leave (`features.coalesced`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Gathering(Generic[T]):
    """Within one event loop. Bounded by the callers that wait for what `depart` does."""

    def __init__(self, depart: Callable[[list[T]], None], largest: int) -> None:
        """Args:
        depart: is given each group, in the order of their coming; from the event loop, so it must not raise.
        largest: of a group; who comes later leaves with the next.
        """
        self._depart = depart
        self._largest = largest
        self._waiting: list[T] = []

    def join(self, one: T) -> None:
        if not self._waiting:
            self._look_again(0)
        self._waiting.append(one)

    def _look_again(self, before: int) -> None:
        asyncio.get_running_loop().call_soon(self._turn, before)

    def _turn(self, before: int) -> None:
        """Once in every turn of the loop, with how many waited in the one before."""
        if before < len(self._waiting) < self._largest:
            self._look_again(len(self._waiting))
            return
        group, self._waiting = self._waiting[: self._largest], self._waiting[self._largest :]
        if self._waiting:
            self._look_again(0)
        self._depart(group)
