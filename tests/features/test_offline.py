"""Point in time: a training set knows what was known, through Feast and its file store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import offline
from features.feast_config import feature_store
from features.offline import TrainingSet, stamps, training_set, write_logs
from features.schema import FeatureSchema
from features.statistics import HALF_LIFE_S
from features.transforms import column, item_statistics, items_at, user_statistics
from tests.features.worlds import DAY, START, World, event_rows, films, world_of

ABSURD = 1e30
Row = tuple[str, str, float, int]


def ask(
    world: World, schema: FeatureSchema, users: list[str], items: list[str], at: np.ndarray
) -> TrainingSet:
    with TemporaryDirectory() as directory:
        write_logs(schema, world.lines, *world.rows(schema), Path(directory))
        return training_set(feature_store(schema, Path(directory)), schema, users, items, at)


@given(st.lists(st.integers(-5, 5)))
def test_stamps_order_events_by_time_then_file(times: list[int]) -> None:
    timestamps = np.array(times, np.int64)
    stamp = stamps(timestamps)
    assert len(set(stamp.tolist())) == len(times)
    assert np.argsort(stamp).tolist() == np.argsort(timestamps, kind="stable").tolist()
    assert (stamp // 1_000_000).tolist() == times


def oracle(known: list[Row], key: int, entity: str, now: float, default_mean: float) -> dict[str, float]:
    """The statistics by their plain definitions, from the events that were known."""
    mine = [row for row in known if row[key] == entity]
    values, times = [row[2] for row in mine], [row[3] for row in mine]
    asked = max(times, default=0.0) if key == 0 else now
    mean = sum(values) / len(values) if values else default_mean
    prefix = "user" if key == 0 else "item"
    return {
        f"{prefix}_events": len(mine),
        f"{prefix}_value_mean": mean,
        f"{prefix}_value_std": (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5 if values else 0.0,
        ("user_activity" if key == 0 else "item_popularity"): sum(
            2 ** (-(asked - time) / HALF_LIFE_S) for time in times
        ),
        f"{prefix}_last_event_at": max(times, default=np.nan),
        **({"user_tenure_days": (max(times) - min(times)) / DAY if times else 0.0} if key == 0 else {}),
    }


@settings(max_examples=8)
@given(event_rows(), st.integers(0, 2), st.integers(0, 2), st.sampled_from([0, 1, DAY, 40 * DAY, 90 * DAY]))
def test_nothing_of_the_future_passes(rows: list[Row], user: int, item: int, offset: int) -> None:
    """Absurd events at and after the cutoff; the answer equals an oracle's over the events before it."""
    cutoff = START + offset
    past = [row for row in rows if row[3] < cutoff]
    future = [(u, i, ABSURD, max(t, cutoff)) for u, i, _, t in rows]
    planted = [(f"u{user}", f"i{item}", ABSURD, cutoff), (f"u{user}", f"i{item}", ABSURD, cutoff + DAY)]
    schema = world_of(past).schema
    at = np.array([cutoff * 1_000_000])
    found = ask(world_of([*future, *past, *planted]), schema, [f"u{user}"], [f"i{item}"], at)
    defaults = {feature.name: feature.default for feature in (*schema.user, *schema.item)}
    for columns, key, entity in ((found.user, 0, f"u{user}"), (found.item, 1, f"i{item}")):
        prefix = "user" if key == 0 else "item"
        expected = oracle(past, key, entity, cutoff, defaults[f"{prefix}_value_mean"])
        for name, value in expected.items():
            np.testing.assert_allclose(columns[name], [value], rtol=1e-5, atol=1e-6, err_msg=name)
    assert found.user["age"].tolist() == [20 + user]
    assert found.item["year"].tolist() == [1990 + item]


def test_the_leak_detector_would_notice_a_leak() -> None:
    """The same question with the event's own row let in: Feast alone would give it away."""
    world = world_of([("u0", "i0", ABSURD, START)])
    schema = world_of([("u0", "i0", 1.0, START)]).schema
    stamp = stamps(world.lines.timestamp)
    assert ask(world, schema, ["u0"], ["i0"], stamp).user["user_events"].tolist() == [0]
    assert ask(world, schema, ["u0"], ["i0"], stamp + 1).user["user_events"].tolist() == [1]


def test_every_event_sees_the_vectorised_state_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """All events of a world with ties, in several queries, against `Timeline.at`: equal to the last bit."""
    monkeypatch.setattr(offline, "ENTITY_ROWS", 50)
    world = films()
    schema, lines = world.schema, world.lines
    pick = np.random.default_rng(1).permutation(world.interactions.num_rows)
    stamp = stamps(lines.timestamp)
    users = [lines.user_ids[code] for code in lines.user_code[pick]]
    items = [lines.item_ids[code] for code in lines.item_code[pick]]
    found = ask(world, schema, users, items, stamp[pick])
    user = user_statistics(lines.user.at(lines.user_code, lines.user.rank))
    item = item_statistics(lines.item.at(lines.item_code, lines.item.rank))
    for features, columns, expected in (
        (schema.user, found.user, user),
        (schema.item, found.item, items_at(item, stamp / 1e6)),
    ):
        for feature in features[: len(expected)]:
            if feature.name in expected:
                want = column(feature, expected[feature.name][pick])
                np.testing.assert_array_equal(columns[feature.name], want, feature.name)


def test_equal_questions_and_unknown_entities_keep_their_places() -> None:
    world = films()
    schema = world.schema
    at = np.full(4, (START + 200 * DAY) * 1_000_000)
    found = ask(world, schema, ["u1", "nobody", "u1", "silent"], ["i1", "i1", "nothing", "unseen"], at)
    events = found.user["user_events"]
    assert events[0] == events[2] > 0
    assert events[1] == events[3] == 0
    assert found.user["zip_code"].tolist() == ["00001", "", "00001", "00012"]
    assert found.item["item_events"][0] == found.item["item_events"][1] > 0
    assert found.item["title"].tolist() == ["Film 1, the", "Film 1, the", "", ""]
    assert [list(cell) for cell in found.item["genres"]] == [["Comedy", "Drama"]] * 2 + [[], []]


def test_no_questions_no_answers() -> None:
    world = films()
    found = ask(world, world.schema, [], [], np.empty(0, np.int64))
    assert {len(values) for values in (*found.user.values(), *found.item.values())} == {0}


def test_the_log_has_a_row_at_birth_and_after_each_event(tmp_path: Path) -> None:
    world = films()
    schema = world.schema
    write_logs(schema, world.lines, *world.rows(schema), tmp_path)
    rows = {path.stem: pq.read_metadata(path).num_rows for path in tmp_path.iterdir()}
    assert rows == {
        "user_state": 120 + 13,
        "item_state": 120 + 10,
        "user_history": 13,
        "user_profile": 13,
        "item_profile": 10,
    }


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = films()
    schema = world.schema
    write_logs(schema, world.lines, *world.rows(schema), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def half(table: object, path: Path, **options: object) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(offline.pq, "write_table", half)
    with pytest.raises(OSError, match="disk full"):
        write_logs(replace(schema), world.lines, *world.rows(schema), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
