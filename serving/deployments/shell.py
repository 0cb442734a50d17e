"""What the replicas of every stage share: a part of a bundle, loaded off the event loop, asked by version."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass
from typing import Generic, TypeVar

from serving.config import ServeConfig
from serving.traffic import InService
from training.bundle import Bundle, read_bundle

T = TypeVar("T")


def one_thread() -> None:
    """A replica computes on one thread: requests run side by side, and threads of a BLAS would only fight
    over the cores that Ray has shared out."""
    from threadpoolctl import threadpool_limits  # on replicas only, after numpy

    threadpool_limits(1)


def settle() -> None:
    """Takes what was loaded out of the garbage collector's sight: its full passes look at every object that
    stays for good, and answer nobody meanwhile. Call it once, when the first bundle is loaded."""
    gc.collect()
    gc.freeze()


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """What one stage needs of a bundle."""

    version: str
    stage: T


class Shell(Generic[T]):
    """The replica of one stage; a subclass says what to build and adds the method that is called."""

    def __init__(self, config: ServeConfig) -> None:
        one_thread()
        self._config = config
        self._service: InService[Part[T]] = InService(self._load)

    def _build(self, bundle: Bundle, config: ServeConfig) -> T:
        """Imports `serving.assemble` itself, so that who deploys the class need not."""
        raise NotImplementedError

    async def reconfigure(self, user_config: dict[str, str]) -> None:
        """Ray Serve calls it before the replica is ready, and whenever `user_config` changes."""
        first = self._service.current is None
        await self._service.put(user_config["bundle"])
        if first:
            settle()

    def _stage(self, version: str) -> T:
        return self._service.of(version).stage

    async def _load(self, url: str) -> Part[T]:
        return await asyncio.to_thread(self._read, url)

    def _read(self, url: str) -> Part[T]:
        bundle = read_bundle(url)
        return Part(bundle.manifest.version, self._build(bundle, self._config))
