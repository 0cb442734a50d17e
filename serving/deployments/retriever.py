"""Retrieval on replicas of its own: every source of a request in one call."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from serving.config import ServeConfig
from serving.deployments.remote import Brought, Refused, SourceInfo
from serving.deployments.shell import Shell
from serving.errors import InvalidFilter
from serving.observe.tracing import continued
from serving.stages import Source
from serving.types import Query
from training.bundle import Bundle

log = logging.getLogger(__name__)


class Retriever(Shell[tuple[Source, ...]]):
    def _build(self, bundle: Bundle, config: ServeConfig) -> tuple[Source, ...]:
        from serving.assemble import build_sources

        return build_sources(bundle, config)

    async def describe(self, version: str) -> tuple[SourceInfo, ...]:
        """The sources, in the order in which `retrieve` answers."""
        return tuple(
            SourceInfo(source.name, source.personal, type(source)) for source in self._stage(version)
        )

    @continued
    async def retrieve(self, version: str, query: Query, within_s: float) -> tuple[Brought, ...]:
        """What each source made of the query. One that fails or takes longer than `within_s` seconds costs
        the others nothing."""
        sources = self._stage(version)
        tasks: dict[int, asyncio.Task[Brought]] = {}
        with suppress(TimeoutError):
            # One deadline for all sources, as in the executor.
            async with asyncio.timeout(within_s), asyncio.TaskGroup() as group:
                for position, source in enumerate(sources):
                    if source.enabled(query):
                        tasks[position] = group.create_task(_ask(source, query))
        return tuple(_brought(tasks.get(position)) for position in range(len(sources)))


def _brought(task: asyncio.Task[Brought] | None) -> Brought:
    if task is None:
        return None
    return TimeoutError.__name__ if task.cancelled() else task.result()


async def _ask(source: Source, query: Query) -> Brought:
    try:
        return await source.retrieve(query)
    except InvalidFilter as error:
        return Refused(error.field, error.reason)
    except Exception as error:
        log.warning("source %s failed: %r", source.name, error)
        return type(error).__name__
