from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.ingest import Ingest
from training.data.manifest import PLAIN, About, Facts, Manifest
from training.data.own import read_own
from training.data.tables import Tables

Event = tuple[str, str, float, int]
events_of_few = st.lists(
    st.tuples(
        st.sampled_from("uv"), st.sampled_from("abc"), st.sampled_from([1.0, 2.0]), st.sampled_from([5, 6])
    ),
    min_size=1,
    max_size=30,
)


def assembled(events: list[Event], facts: Facts = PLAIN) -> Tables:
    columns = list(zip(*events, strict=True))
    table = pa.table(
        {
            "user_id": pa.array(columns[0]).dictionary_encode(),
            "item_id": pa.array(columns[1]).dictionary_encode(),
            "value": pa.array(columns[2], pa.float32()),
            "timestamp": pa.array(columns[3], pa.int64()),
        }
    )
    return Tables.assemble(table, None, None, About("few", "a test", "free"), facts)


def rows(tables: Tables) -> list[Event]:
    columns = tables.interactions.to_pydict().values()
    return list(zip(*columns, strict=True))


@settings(max_examples=200, deadline=None)
@given(events=events_of_few, times=st.integers(1, 4))
def test_delivering_events_again_changes_nothing_but_the_count(events: list[Event], times: int) -> None:
    once = assembled(list(dict.fromkeys(events)))
    delivered = assembled([event for event in events for _ in range(times)])
    assert rows(delivered) == rows(once) == list(dict.fromkeys(events))
    assert delivered.facts.duplicates == len(events) * times - len(set(events))


@settings(max_examples=200, deadline=None)
@given(events=events_of_few)
def test_repeats_are_what_is_left_of_a_pair_after_its_first_event(events: list[Event]) -> None:
    facts = assembled(events).facts
    met = Counter(event[:2] for event in set(events))
    assert facts.pairs == len(met)
    assert facts.repeats == pytest.approx(sum(count - 1 for count in met.values()) / len(set(events)))


@settings(max_examples=50, deadline=None)
@given(events=events_of_few)
def test_without_times_nothing_tells_a_copy_from_a_repeat(events: list[Event]) -> None:
    tables = assembled(events, Facts(timed=False))
    assert rows(tables) == events
    assert tables.facts.duplicates == 0
    assert tables.facts.repeats == pytest.approx(1 - len({e[:2] for e in events}) / len(events))


def test_every_event_sent_thrice_is_one_and_density_is_of_pairs(tmp_path: Path) -> None:
    lines = [f"u{n % 4},i{n % 3},1,{1_700_000_000 + n}" for n in range(12) for _ in range(3)]
    (tmp_path / "interactions.csv").write_text("user_id,item_id,value,timestamp\n" + "\n".join(lines) + "\n")
    manifest = read_own(tmp_path, Ingest()).write(tmp_path / "data")
    assert manifest.counts["interactions"] == 12
    assert (manifest.facts.duplicates, manifest.facts.repeats, manifest.density) == (24, 0.0, 1.0)
    assert Manifest.read(tmp_path / "data").facts == manifest.facts


def test_150_copies_of_one_event_are_one_pair(tmp_path: Path) -> None:
    """Printed as 15,000 % of all pairs before."""
    (tmp_path / "interactions.csv").write_text(
        "user_id,item_id,value,timestamp\n" + "a,x,1,2024-01-01T00:00:00Z\n" * 150
    )
    manifest = read_own(tmp_path, Ingest()).write(tmp_path / "data")
    assert (manifest.facts.duplicates, manifest.counts["interactions"], manifest.density) == (149, 1, 1.0)
