"""An engine is taken when it has answered whole, several times in a row where its stages run elsewhere."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from math import inf
from typing import cast

import pytest

from features.store import FeatureBatch, OnlineStore, OnlineStoreError
from serving.config import ServeConfig
from serving.deployments import loading
from serving.deployments.loading import EngineLoader, Groups, WarmUpFailed, _connected, _warm_up
from serving.engine import Engine
from serving.observe.metrics import NullRecorder
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


class Deploying:
    """What Serve says each time it is asked: that it deploys, so many times."""

    def __init__(self, times: float) -> None:
        self.times, self.asked = times, 0

    async def __call__(self) -> bool:
        self.asked += 1
        return self.asked <= self.times

    def loader(self) -> EngineLoader:
        """With ranking on other replicas."""
        config, handles = ServeConfig(bundle="/bundles/first"), cast("Groups", {("ranking",): None})
        return EngineLoader(config, handles, "redis://nowhere", NullRecorder(), self)


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "WARM_UP_S", 1.0)


@pytest.mark.usefixtures("_soon")
async def test_a_first_bundle_waits_for_replicas_that_are_being_deployed() -> None:
    """Pods of a new cluster that are ready are sent requests, and answer no worse than the old one's."""
    serve = Deploying(inf)
    engine, did = engine_with(iter(lambda: serve.asked < 2, None), Counts())
    await asyncio.wait_for(serve.loader()._warmed_up(engine, whole=False), 20)
    assert serve.asked >= 2
    assert not any(did[-2 * loading.WHOLE_ROUNDS :])


@pytest.mark.usefixtures("_soon")
async def test_a_first_bundle_begins_without_replicas_that_a_running_application_has_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    serve = Deploying(1)
    engine, _ = engine_with(repeat(True), Counts())
    await asyncio.wait_for(serve.loader()._warmed_up(engine, whole=False), 20)
    assert serve.asked == 2
    assert "answers, but without" in caplog.text
    assert "waits for" in caplog.text


@pytest.mark.usefixtures("_soon")
async def test_a_first_bundle_does_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(loading, "DEPLOYED_S", 1.5)
    engine, _ = engine_with(repeat(True), Counts())
    await asyncio.wait_for(Deploying(inf).loader()._warmed_up(engine, whole=False), 20)
    assert "answers, but without" in caplog.text
    assert "waits for" in caplog.text


@pytest.mark.usefixtures("_soon")
async def test_a_later_bundle_that_lacks_a_stage_is_refused_whatever_is_deployed() -> None:
    engine, _ = engine_with(repeat(True), Counts())
    with pytest.raises(WarmUpFailed, match="only without"):
        await Deploying(inf).loader()._warmed_up(engine, whole=True)


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
