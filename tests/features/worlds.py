"""Small worlds for the features' tests: hand-made tables, and strategies that draw them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from features.rows import Rows, Timelines, item_rows, timelines, user_rows
from features.schema import FeatureSchema

START = 880_000_000
DAY = 86_400


@dataclass(frozen=True)
class World:
    interactions: pa.Table
    items: pa.Table
    users: pa.Table

    @property
    def schema(self) -> FeatureSchema:
        return FeatureSchema.infer(self.interactions, self.items, self.users)

    @property
    def lines(self) -> Timelines:
        return timelines(self.interactions, self.items, self.users)

    def rows(self, schema: FeatureSchema) -> tuple[Rows, Rows]:
        lines = self.lines
        return user_rows(schema, lines, self.users), item_rows(schema, lines, self.items)


def events(rows: list[tuple[str, str, float, int]]) -> pa.Table:
    """Interactions from (user, item, value, unix seconds)."""
    users, items, values, times = zip(*rows, strict=True) if rows else ((), (), (), ())
    return pa.table(
        {
            "user_id": pa.array(users, pa.string()).dictionary_encode(),
            "item_id": pa.array(items, pa.string()).dictionary_encode(),
            "value": pa.array(values, pa.float32()),
            "timestamp": pa.array(times, pa.int64()),
        }
    )


def films(n_users: int = 12, n_items: int = 9, n_events: int = 120, seed: int = 0) -> World:
    """Seeded; has ties of time, an item and a user without events, nulls and an unknown occupation."""
    rng = np.random.default_rng(seed)
    rows = [
        (
            f"u{rng.integers(n_users)}",
            f"i{rng.integers(n_items)}",
            float(rng.integers(1, 6)),
            int(START + DAY * rng.integers(0, 90) + rng.integers(0, 3)),
        )
        for _ in range(n_events)
    ]
    genres = [["Drama"], ["Comedy", "Drama"], [], ["Action"], None]
    return World(
        events(rows),
        pa.table(
            {
                "item_id": [f"i{i}" for i in range(n_items)] + ["unseen"],
                "title": [f"Film {i}, the" for i in range(n_items)] + [None],
                "year": pa.array([1990 + i for i in range(n_items)] + [None], pa.int16()),
                "genres": pa.array(
                    [genres[i % len(genres)] for i in range(n_items + 1)], pa.list_(pa.string())
                ),
            }
        ),
        pa.table(
            {
                "user_id": [f"u{i}" for i in range(n_users)] + ["silent"],
                "age": pa.array([20.0 + i for i in range(n_users)] + [None], pa.float64()),
                "occupation": ["writer", "nurse"] * (n_users // 2) + [None] * (n_users % 2 + 1),
                "zip_code": [f"{i:05}" for i in range(n_users + 1)],
            }
        ),
    )


@st.composite
def event_rows(draw: st.DrawFn, users: int = 3, items: int = 3) -> list[tuple[str, str, float, int]]:
    """Few users, items and seconds, so that ties and repetitions are common."""
    row = st.tuples(
        st.integers(0, users - 1).map(lambda i: f"u{i}"),
        st.integers(0, items - 1).map(lambda i: f"i{i}"),
        st.sampled_from([0.5, 1.0, 3.0, 4.5]),
        st.sampled_from([START, START + 1, START + DAY, START + 40 * DAY]),
    )
    return draw(st.lists(row, max_size=12))


def world_of(rows: list[tuple[str, str, float, int]], users: int = 3, items: int = 3) -> World:
    return World(
        events(rows),
        pa.table({"item_id": [f"i{i}" for i in range(items)], "year": [1990 + i for i in range(items)]}),
        pa.table({"user_id": [f"u{i}" for i in range(users)], "age": [20 + i for i in range(users)]}),
    )
