"""An engine is taken when it has answered whole, several times in a row where its stages run elsewhere."""

from collections.abc import Iterator

import pytest

from serving.deployments import loading
from serving.deployments.loading import _warm_up
from serving.engine import Engine
from tests.serving.doubles import Counts, FixedSource, batch_of
from tests.serving.fakes import engine_of


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "WARM_UP_PAUSE_S", 0.0)


def engine_with(faults: Iterator[bool], counts: Counts) -> tuple[Engine, list[bool]]:
    """One source of the engine fails as told, then never again; and what it did so far."""
    did: list[bool] = []

    async def fault() -> None:
        did.append(next(faults, False))
        if did[-1]:
            raise ConnectionError("the replica has another bundle")

    popular = FixedSource("popular", batch=batch_of(range(10)), personal=False)
    return engine_of(FixedSource("remote", batch=batch_of([1]), fault=fault), popular, recorder=counts), did


async def test_one_whole_round_is_enough_where_everything_is_here() -> None:
    engine, did = engine_with(iter(()), Counts())
    assert await _warm_up(engine, 1) == set()
    assert len(did) == 2


async def test_a_loss_starts_the_row_of_whole_rounds_again_and_is_not_recorded() -> None:
    counts = Counts()
    engine, did = engine_with(iter([False, False, False, True]), counts)
    assert await _warm_up(engine, 3) == set()
    assert did == [False, False, False, True, *[False] * 6]
    assert (counts.answers, counts.losses) == (0, [])


async def test_what_is_still_lost_when_time_is_up_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "WARM_UP_S", 0.05)
    engine, _ = engine_with(iter(lambda: True, None), Counts())
    assert await _warm_up(engine, 1) == {"source:remote"}
