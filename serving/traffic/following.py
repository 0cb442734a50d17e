"""Keeps a replica on the traffic that a file says. On Kubernetes the file is a mounted ConfigMap, which the
kubelet replaces when somebody writes it; in a local run the admin endpoint writes it
(`serving.traffic.traffic_file`). Nothing that stands in it ends what a replica serves.

Does not belong here: loading and swapping (`serving.traffic.table`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.config import Traffic
from serving.traffic.desired import MAX_BYTES, Desired, InvalidTraffic
from serving.traffic.table import InService

log = logging.getLogger(__name__)

POLL_S = 1.0
"""s between two looks at the file, a few hundred bytes from memory. inotify would see the kubelet's renames
at once, but the kubelet itself takes about as long."""

RETRY_S, RETRY_MOST_S = 5.0, 60.0
"""s until what was refused is tried again, doubled each time up to the second: a bundle may be on its way."""


@dataclass
class Follower:
    """One replica's, used from its event loop.

    Attributes:
        path: the file; its folder is named like the ConfigMap that it shows. None: `first` serves for good.
        first: what serves where there is no such file yet; None waits for it.
        patient: whether a first bundle that is refused is waited for, as one that is on its way to a cluster;
            otherwise `begin` raises, and who started the replica learns why.
        begun: called once, when something is in service for the first time.
        told: called when `waiting` or `refusal` may have changed.
    """

    path: Path | None
    service: InService[Any]
    first: Traffic | None = None
    begun: Callable[[], None] = lambda: None
    told: Callable[[], None] = lambda: None
    patient: bool = True
    clock: Callable[[], float] = time.monotonic
    refusal: str = ""
    """Why the file's text was not taken at all; empty where it is a traffic, or not there."""
    _seen: bytes | None = field(default=b"", init=False, repr=False)  # an empty file is none of ours
    _there: bool = field(default=False, init=False)
    _retry_at: float | None = field(default=None, init=False)
    _pause_s: float = field(default=RETRY_S, init=False)
    _up: asyncio.Event = field(default_factory=asyncio.Event, init=False, repr=False)
    _task: asyncio.Task[None] | None = field(default=None, init=False, repr=False)

    async def begin(self) -> None:
        """Returns when this replica may be sent requests.

        Where the file is there others serve what it says, so a new replica is held back until it does too,
        however long that takes. Where it is not, nobody serves yet: the replica comes up and says what it
        waits for.

        Raises:
            InvalidTraffic: this is the start, and not a patient one, and the file holds no traffic.
            Exception: or its production bundle was refused.
        """
        if self._task is None:
            if not self.patient:
                await self._begin()
            self._task = asyncio.create_task(self._follow())
        await self._up.wait()

    async def _begin(self) -> None:
        content = await asyncio.to_thread(self._read)
        traffic = self.first if content is None else Desired.parse(content).traffic
        if traffic is not None:
            await self.service.begin(traffic)
            self._seen = content

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    @property
    def waiting(self) -> str:
        """What this replica waits for before it can serve anything; empty once something is in service."""
        if self.service.table is not None or self.path is None:
            return ""
        if self.refusal:
            return f"no bundle yet: the traffic object {self.path.parent.name} is refused: {self.refusal}"
        desired = self.service.desired
        if desired is None:
            return f"no bundle yet: waiting for the traffic object {self.path.parent.name}"
        production = desired.bundles[0]
        error = self.service.state(production).error
        if error is None:
            return f"no bundle yet: loading {production}"
        return f"no bundle yet: waiting for {production}: {error}"

    async def _follow(self) -> None:
        while True:
            try:
                self.look(await asyncio.to_thread(self._read))
            except OSError as error:  # what is in service stays
                log.warning("%s cannot be read: %s", self.path, error)
            await asyncio.sleep(POLL_S)

    def _read(self) -> bytes | None:
        if self.path is None:
            return None
        try:
            with self.path.open("rb") as file:
                return file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return None

    def look(self, content: bytes | None) -> None:
        """One look at the file's content; None where there is none."""
        if content != self._seen:
            self._seen, self._retry_at, self._pause_s = content, None, RETRY_S
            self._take(content)
            self.told()
        else:
            self._try_again()
        if self.service.table is not None and not self._there:
            self._there = True
            self.begun()
            self.told()
        if self._there or (content is None and self.service.idle):
            self._up.set()

    def _take(self, content: bytes | None) -> None:
        self.refusal = ""
        if content is None:
            if self.service.table is not None:
                log.warning("%s is gone; what is in service stays", self.path)
            elif self.first is not None:
                self.service.offer(self.first)
            return
        try:
            desired = Desired.parse(content)
        except InvalidTraffic as error:
            self.refusal = str(error)
            log.error("what is in service stays, as the new traffic is none: %s", error)
            self.service.refused(error)
            return
        log.info("traffic of revision %d is desired", desired.revision)
        self.service.offer(desired.traffic)

    def _try_again(self) -> None:
        if self.service.desired is None or self.service.taken or not self.service.idle:
            return
        if self._retry_at is None:
            self._retry_at = self.clock() + self._pause_s
            self._pause_s = min(RETRY_MOST_S, 2 * self._pause_s)
        elif self.clock() >= self._retry_at:
            self._retry_at = None
            self.service.offer(self.service.desired, again=True)
