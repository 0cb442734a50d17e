from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from features.progress import silent
from features.schema import FeatureSchema
from loadtests.bench.inputs import World
from loadtests.bench.result import Spread
from loadtests.bench.rounds import Effort
from loadtests.bench.suites import features
from loadtests.bench.suites.features import ARMS, OURS, PACKED_RAW, PLAIN, RAW, Kind, median_ms, section
from training.data.prepare import Request, prepare
from training.data.prepare import World as Size

TINY = Effort(quick=True, rounds=2, seconds=0.0, repeats=2)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A home with data only, and of a bundle what the suite reads of it."""
    home, bundle, work = (tmp_path / name for name in ("home", "bundle", "work"))
    prepare(
        Request("synthetic", None, Size(users=40, items=30, interactions=200, seed=1)), home, progress=silent
    )
    bundle.mkdir()
    work.mkdir()
    tables = (pq.read_table(home / "data" / f"{name}.parquet") for name in ("interactions", "items", "users"))
    (bundle / "schema.json").write_text(FeatureSchema.infer(*tables).to_json(), encoding="utf-8")
    shutil.copy(home / "data" / "items.parquet", bundle)
    return World(home, bundle, work)


def test_every_arm_reads_every_size_and_the_goals_say_how_it_ended(world: World) -> None:
    found = features.run(TINY, world)
    [reads] = found.tables
    assert [row[0] for row in reads.rows] == [
        f"{n} {kind}" for kind in ("users", "items") for n in (1, 100, 500)
    ]
    for row in reads.rows:
        assert all(isinstance(cell, Spread) and len(cell.values) == TINY.rounds for cell in row[1:])
    assert len(found.goals) == 8


def one_kind(arm: features.Read, ids: tuple[str, ...] = ("a", "b", "c")) -> Kind:
    return Kind("users", ids, dict.fromkeys(ARMS, arm))


async def test_a_read_asks_for_as_many_as_it_says_and_all_ids_come_in_turn() -> None:
    asked: list[Sequence[str]] = []

    async def read(ids: Sequence[str]) -> None:
        asked.append(ids)

    kind = one_kind(read)
    await median_ms(read, kind.batches(2), 3)
    assert asked == [["a", "b"], ["a", "b"], ["c", "a"], ["a", "b"]]
    assert kind.batches(5) == [["a", "b", "c", "a", "b"]]


def test_ratios_are_those_of_the_figures() -> None:
    arms = {OURS: Spread((3.0, 4.0)), PACKED_RAW: Spread((2.0, 1.0)), RAW: Spread((1.0, 2.0))}
    medians = {("items", 100): {**arms, PLAIN: Spread((6.0, 8.0))}}
    found = section(medians)
    over_features, over_packed = found.goals
    assert over_features.found.values == (3.0, 2.0)
    assert over_packed.found.values == (1.5, 4.0)
    assert not over_packed.reached
    assert found.tables[0].rows[0][-3:] == tuple(map(Spread, ((3.0, 2.0), (1.5, 4.0), (0.5, 0.5))))
