"""An engine is taken when it has answered whole, several times in a row where its stages run elsewhere."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import cast

import pytest

from features.store import FeatureBatch, OnlineStore, OnlineStoreError
from serving.deployments import loading
from serving.deployments.loading import _connected, _warm_up
from serving.engine import Engine
from tests.serving.doubles import Counts, Fault, FixedSource, batch_of
from tests.serving.fakes import engine_of


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "WARM_UP_PAUSE_S", 0.0)


def engine_with(faults: Iterator[bool], counts: Counts) -> tuple[Engine, list[bool]]:
    """One source of the engine fails as told, then never again; and what it did so far."""
    did: list[bool] = []

    class AsGiven(Fault):
        def compute(self) -> None:
            did.append(next(faults, False))
            if did[-1]:
                raise ConnectionError("the replica has another bundle")

    popular = FixedSource("popular", batch=batch_of(range(10)), personal=False)
    remote = FixedSource("remote", batch=batch_of([1]), fault=AsGiven())
    return engine_of(remote, popular, recorder=counts), did


async def test_one_whole_round_is_enough_where_everything_is_here() -> None:
    engine, did = engine_with(iter(()), Counts())
    assert await _warm_up(engine, 1, 20.0) == set()
    assert len(did) == 2


async def test_a_loss_starts_the_row_of_whole_rounds_again_and_is_not_recorded() -> None:
    counts = Counts()
    engine, did = engine_with(iter([False, False, False, True]), counts)
    assert await _warm_up(engine, 3, 20.0) == set()
    assert did == [False, False, False, True, *[False] * 6]
    assert (counts.answers, counts.losses) == (0, [])


async def test_what_is_still_lost_when_time_is_up_is_named() -> None:
    engine, _ = engine_with(iter(lambda: True, None), Counts())
    assert await _warm_up(engine, 1, 0.05) == {"source:remote"}


class Store:
    """Each read fails, or takes so many seconds, as told; then none does."""

    def __init__(self, faults: Iterable[Exception | float]) -> None:
        self.faults, self.reads = iter(faults), list[tuple[str, ...]]()

    async def read_users(self, user_ids: Sequence[str]) -> FeatureBatch:
        self.reads.append(tuple(user_ids))
        fault = next(self.faults, 0.0)
        if isinstance(fault, Exception):
            raise fault
        await asyncio.sleep(fault)
        return cast("FeatureBatch", None)


async def test_the_store_has_answered_before_the_first_request() -> None:
    store = Store([OnlineStoreError("not up yet"), 0.2])
    await _connected(cast("OnlineStore", store))
    assert len(store.reads) == 3
    assert len(store.reads[-1]) == 1  # as a request reads


@pytest.mark.parametrize("fault", [OnlineStoreError("away"), 3_600.0])
async def test_a_store_that_is_away_does_not_keep_a_replica_from_starting(
    fault: Exception | float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loading, "STORE_S", 0.2)
    await asyncio.wait_for(_connected(cast("OnlineStore", Store(repeat(fault)))), 20)
    assert "begins without features" in caplog.text
