from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from features.progress import silent
from features.schema import FeatureSchema
from loadtests.bench.result import Spread
from loadtests.bench.rounds import Effort
from loadtests.bench.suites import features
from loadtests.bench.suites.features import (
    OURS,
    PARTS,
    PLAIN,
    RAW,
    RAW_FIELDS,
    Kind,
    median_ms,
    section,
    watch,
)
from loadtests.bench.world import World
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


def test_every_arm_reads_every_size_and_the_goals_say_how_it_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "QUICK_DRIFT_S", 0.5)
    found = features.run(TINY, world)
    reads, ratios, drift = found.tables
    assert [row[0] for row in reads.rows] == [
        f"{n} {kind}" for kind in ("users", "items") for n in (1, 100, 500)
    ]
    for row in (*reads.rows, *ratios.rows):
        assert all(isinstance(cell, Spread) and len(cell.values) == TINY.rounds for cell in row[1:])
    assert [row[0] for row in drift.rows] == [OURS, RAW]
    assert len(found.goals) == 9
    assert len(found.plots[0].lines[OURS]) == PARTS


def one_kind(arm: features.Read, ids: tuple[str, ...] = ("a", "b", "c")) -> Kind:
    return Kind("users", ids, dict.fromkeys((OURS, RAW, RAW_FIELDS, PLAIN), arm))


async def test_a_read_asks_for_as_many_as_it_says_and_all_ids_come_in_turn() -> None:
    asked: list[Sequence[str]] = []

    async def read(ids: Sequence[str]) -> None:
        asked.append(ids)

    kind = one_kind(read)
    await median_ms(read, kind.batches(2), 3)
    assert asked == [["a", "b"], ["a", "b"], ["c", "a"], ["a", "b"]]
    assert kind.batches(5) == [["a", "b", "c", "a", "b"]]


async def test_watching_divides_the_time_evenly_and_reads_with_both_arms() -> None:
    async def read(ids: Sequence[str]) -> None:
        return None

    parts = await watch(one_kind(read), seconds=1.0)
    assert {name: [len(part) for part in of] for name, of in parts.items()} == {
        name: [int(features.RATE) // PARTS] * PARTS for name in (OURS, RAW)
    }


def test_ratios_and_drift_are_those_of_the_figures() -> None:
    medians = {("items", 100): {OURS: Spread((3.0, 4.0)), RAW: Spread((2.0, 1.0))}}
    medians["items", 100] |= {RAW_FIELDS: Spread((1.0, 1.0)), PLAIN: Spread((6.0, 8.0))}
    rising = [[1.0 + 0.1 * part] * 3 for part in range(PARTS)]
    found = section(medians, {OURS: rising, RAW: [[2.0]] * PARTS}, 600.0)
    over_features, over_packed, drift = found.goals
    assert over_features.found.values == (3.0, 4.0)
    assert over_packed.found.values == (1.5, 4.0)
    assert found.tables[1].rows[0][1:] == tuple(
        Spread(ratio) for ratio in ((3.0, 4.0), (6.0, 8.0), (1.5, 4.0), (0.5, 0.5))
    )
    assert drift.found.median == pytest.approx(1.9)
    assert not drift.reached
    ours, raw = found.tables[2].rows
    assert ours[1:4] == pytest.approx((1.0, 1.9, 1.9))
    assert ours[4] == pytest.approx(0.1 / np.median([part[0] for part in rising]) * 100)
    assert raw[4] == pytest.approx(0.0)
