"""All sources of a request in one call: what one of them does costs the others nothing."""

import time
from collections.abc import Sequence
from typing import Any

from serving.deployments.remote import Refused
from serving.deployments.retriever import Retriever
from serving.errors import InvalidFilter
from serving.stages import Source
from serving.types import CandidateBatch, Query
from tests.serving.doubles import FixedSource, batch_of, fails, hangs, query_of

WITHIN_S = 60.0
"""Seconds; a busy machine must not cost a source its time."""


class Refusing(FixedSource):
    async def retrieve(self, query: Query) -> CandidateBatch:
        raise InvalidFilter("year", "no such field")


class Holding(Retriever):
    """A replica that holds these sources as bundle "v1"."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = tuple(sources)

    def _stage(self, version: str) -> tuple[Source, ...]:
        assert version == "v1"
        return self._sources


def asked() -> Query:
    return query_of(deadline=time.monotonic() + 10)


async def brought(*sources: Source, within_s: float = WITHIN_S) -> tuple[Any, ...]:
    return await Holding(sources).retrieve("v1", asked(), within_s)


async def test_each_source_answers_in_its_place() -> None:
    first, declined, failed, refused = await brought(
        FixedSource("first", batch=batch_of([1, 2])),
        FixedSource("declining", batch=batch_of([3]), wanted=False),
        FixedSource("failing", batch=batch_of([4]), fault=fails),
        Refusing("refusing", batch=batch_of([5])),
    )
    assert first.item_index.tolist() == [1, 2]
    assert declined is None
    assert failed == "ConnectionError"
    assert refused == Refused("year", "no such field")


async def test_one_that_hangs_is_given_up_and_the_others_are_kept() -> None:
    hanging, quick = await brought(
        FixedSource("hanging", fault=hangs), FixedSource("quick", batch=batch_of([7])), within_s=0.05
    )
    assert hanging == "TimeoutError"
    assert quick.item_index.tolist() == [7]


async def test_requests_carried_together_are_answered_each() -> None:
    replica = Holding([FixedSource("only", batch=batch_of([1]))])
    answers = await replica.each("retrieve", "v1", [(asked(), WITHIN_S), (asked(), WITHIN_S)], WITHIN_S)
    assert [batch.item_index.tolist() for (batch,) in answers] == [[1], [1]]
