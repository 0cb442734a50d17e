from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pytest
from rich.console import Console

from training.dataset import Dataset
from training.evaluate import Cases, Ease, Int32, Popularity, as_metrics, evaluate, interval, render


@dataclass
class Oracle:
    """Puts the item taken at one place of its list."""

    place: int
    name: str = "oracle"

    def recommend(self, cases: Cases, k: int) -> Int32:
        ranked = np.full((len(cases), k), -1, np.int32)
        if self.place < k:
            ranked[:, self.place] = cases.targets
        return ranked


@dataclass
class TwoStages(Oracle):
    def retrieve(self, cases: Cases, k: int) -> Int32:
        return np.full((len(cases), k), -1, np.int32)


@pytest.fixture(scope="module")
def cases(dataset: Dataset) -> Cases:
    return Cases(dataset, dataset.test)


def test_a_case_knows_what_came_before_it_and_no_more(cases: Cases, dataset: Dataset) -> None:
    for case, history in enumerate(cases.histories()):
        assert len(history) == cases.positions[case] - cases.span(case).start
        assert cases.targets[case] not in history
        assert dataset.events.timestamp[cases.span(case)].max() <= cases.now[case]


@pytest.mark.parametrize(
    ("place", "ndcg", "recall", "retrieved"),
    [(0, 1.0, 1.0, 1.0), (2, 0.5, 1.0, 1.0), (10, 0.0, 0.0, 1.0), (100, 0.0, 0.0, 0.0)],
)
def test_figures_follow_the_place_of_the_item(
    cases: Cases, place: int, ndcg: float, recall: float, retrieved: float
) -> None:
    (row,) = evaluate([Oracle(place)], cases)
    assert row.values["ndcg@10"] == pytest.approx(ndcg)
    assert row.values["recall@10"] == recall
    assert row.values["recall@100"] == retrieved
    assert row.intervals["ndcg@10"] == pytest.approx((ndcg, ndcg))


def test_a_retriever_is_judged_by_what_it_retrieved(cases: Cases) -> None:
    (row,) = evaluate([TwoStages(0)], cases)
    assert row.values["recall@10"] == 1.0
    assert row.values["recall@100"] == 0.0


@pytest.mark.parametrize("baseline", [Popularity, Ease])
def test_baselines_never_recommend_what_was_met_and_beat_chance(
    baseline: type[Popularity] | type[Ease], cases: Cases, dataset: Dataset
) -> None:
    ranked = baseline.fit(dataset).recommend(cases, dataset.n_items + 5)
    for row, history in zip(ranked, cases.histories(), strict=True):
        items = row[row >= 0]
        assert sorted([*items, *np.unique(history)]) == list(range(dataset.n_items))
        assert (row[len(items) :] == -1).all()
    (measured,) = evaluate([baseline.fit(dataset)], cases)
    assert measured.values["recall@10"] > 10 / dataset.n_items


def test_popularity_is_the_order_of_training_counts(cases: Cases, dataset: Dataset) -> None:
    counts = np.bincount(dataset.events.item_index[dataset.train], minlength=dataset.n_items)
    ranked = Popularity.fit(dataset).recommend(cases, 10)
    assert (np.diff(counts[ranked].astype(int), axis=1) <= 0).all()


def test_the_interval_holds_the_mean_and_narrows_with_users() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.random(50), rng.random(5_000)
    for sample in (few, many):
        low, high = interval(sample)
        assert low < sample.mean() < high
        # The normal approximation, which the bootstrap of a mean must be near.
        assert (high - low) == pytest.approx(2 * 1.96 * sample.std() / len(sample) ** 0.5, rel=0.15)


def test_the_table_names_every_measure_of_everyone(cases: Cases, dataset: Dataset) -> None:
    rows = evaluate([Oracle(2), Popularity.fit(dataset)], cases)
    out = io.StringIO()
    Console(file=out, width=80).print(render(rows, "title"))
    for text in (
        "oracle",
        "popularity",
        "ndcg@10",
        "recall@100",
        "coverage",
        "diversity",
        "novelty",
        "0.5000",
    ):
        assert text in out.getvalue()
    recorded = as_metrics(rows)
    assert recorded["oracle"]["ndcg@10"] == 0.5
    assert recorded["popularity"]["recall@10 low"] <= recorded["popularity"]["recall@10"]
