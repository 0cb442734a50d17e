"""Cases hold what their users did later, and know what they did before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from features.schema import FeatureSchema
from training.cases import Cases, segments
from training.data.tables import Tables
from training.dataset import Dataset, build
from training.evaluate import Popularity, evaluate
from training.feedback import Feedback
from training.models.arrays import Int32


@pytest.fixture(scope="module", params=["leave_one_out", "temporal"])
def data(request: pytest.FixtureRequest, tables: Tables, schema: FeatureSchema) -> Dataset:
    return build(tables, schema, split=request.param)


@dataclass
class Knowing:
    """Recommends what was taken, in any order."""

    name: str = "knowing"

    def recommend(self, cases: Cases, k: int) -> Int32:
        return cases.relevant.padded(k, -1)


def test_a_user_is_a_case_and_every_held_out_event_is_in_one_or_left_out(data: Dataset) -> None:
    cases = Cases.of(data, data.test)
    users = data.events.user_index[cases.positions]
    assert len(np.unique(users)) == len(cases)
    assert cases.left_out < len(data.test)
    for case, held in enumerate(cases.held):
        assert set(held) <= set(data.test)
        assert (data.events.user_index[held] == users[case]).all()
        assert len(np.unique(data.events.item_index[held])) == len(held)
        assert not np.isin(data.events.item_index[held], data.hidden(int(held[0]))).any()
        assert cases.span(case).stop == held[0]
        assert data.events.timestamp[cases.span(case)].max(initial=0) <= cases.now[case]


def test_who_knows_is_perfect_and_popularity_is_not(data: Dataset) -> None:
    knowing, popularity = evaluate([Knowing(), Popularity.fit(data)], Cases.of(data, data.test))
    for measure in ("ndcg@10", "map@10", "mrr@1", "hit rate@1", "ndcg@50"):
        assert knowing.values[measure] == pytest.approx(1)
    assert 0 < popularity.values["ndcg@10"] < 0.5


def test_nothing_of_the_future_trains_in_a_temporal_split(tables: Tables, schema: FeatureSchema) -> None:
    data = build(tables, schema, split="temporal")
    ends = [data.events.timestamp[part] for part in (data.train, data.validation, data.test)]
    assert ends[0].max() < ends[1].min()
    assert ends[1].max() < ends[2].min()
    cases = Cases.of(data, data.test)
    assert cases.held.lengths.max() > 1


def test_parts_hold_the_relevant_items_of_their_users(data: Dataset) -> None:
    cases = Cases.of(data, data.test)
    parts = segments(cases)
    users = [parts[name].lengths for name in ("cold users", "warm users", "heavy users")]
    assert (np.sum(users, axis=0) == cases.relevant.lengths).all()
    met = np.bincount(data.events.item_index[data.train], minlength=data.n_items)
    assert (met[parts["new items"].values] <= 5).all()
    assert len(parts["new items"].values) == (met[cases.relevant.values] <= 5).sum()


def test_an_item_that_is_taken_twice_counts_once(tables: Tables, schema: FeatureSchema) -> None:
    data = build(tables, schema, Feedback(seen="allow"), split="temporal")
    cases = Cases.of(data, data.test)
    assert cases.left_out == 0
    assert len(cases.held.values) <= len(data.test)
