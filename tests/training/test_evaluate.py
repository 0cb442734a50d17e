from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pytest
from rich.console import Console

from training.cases import Cases, segments
from training.dataset import Dataset
from training.evaluate import Ease, Popularity, evaluate, intervals
from training.figures import as_metrics, render
from training.models.arrays import Int32


@dataclass
class Oracle:
    """Puts the item taken at one place of its list."""

    place: int
    name: str = "oracle"

    def recommend(self, cases: Cases, k: int) -> Int32:
        ranked = np.full((len(cases), k), -1, np.int32)
        if self.place < k:
            ranked[:, self.place] = cases.relevant.values
        return ranked


@dataclass
class TwoStages(Oracle):
    def retrieve(self, cases: Cases, k: int) -> Int32:
        return np.full((len(cases), k), -1, np.int32)


@pytest.fixture(scope="module")
def cases(dataset: Dataset) -> Cases:
    return Cases.each(dataset, dataset.test)


def test_a_case_knows_what_came_before_it_and_no_more(cases: Cases, dataset: Dataset) -> None:
    for case, history in enumerate(cases.histories()):
        assert len(history) == cases.positions[case] - cases.span(case).start
        assert cases.relevant.values[case] not in history
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
        low, high = intervals({"": sample})[""]
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
        "miscalibration",
        "warm users",
        "0.5000",
    ):
        assert text in out.getvalue()
    recorded = as_metrics(rows)
    assert recorded["oracle"]["ndcg@10"] == 0.5
    assert recorded["popularity"]["recall@10 low"] <= recorded["popularity"]["recall@10"]


def test_every_measure_at_every_cutoff_is_recorded_with_its_interval(cases: Cases) -> None:
    recorded = as_metrics(evaluate([Oracle(2)], cases))["oracle"]
    for k, found in ((1, 0.0), (5, 1.0), (10, 1.0), (20, 1.0), (50, 1.0)):
        assert recorded[f"hit rate@{k}"] == recorded[f"recall@{k}"] == found
        assert recorded[f"precision@{k}"] == pytest.approx(found / k)
        assert recorded[f"mrr@{k}"] == recorded[f"map@{k}"] == pytest.approx(found / 3)
    assert recorded["serendipity low"] <= recorded["serendipity"] <= recorded["serendipity high"]
    assert 0 < recorded["gini"] < 1


def test_parts_of_the_cases_are_judged_apart(cases: Cases) -> None:
    parts = segments(cases)
    users = [parts[name].lengths for name in ("cold users", "warm users", "heavy users")]
    assert (np.sum(users, axis=0) == cases.relevant.lengths).all()
    (row,) = evaluate([Oracle(2)], cases)
    assert row.segments.keys() == {name for name, part in parts.items() if len(part.values)}
    assert all(part.values["ndcg@10"] == pytest.approx(0.5) for part in row.segments.values())
    assert as_metrics([row])["oracle"]["ndcg@10, warm users"] == pytest.approx(0.5)


def test_resamples_leave_out_users_of_whom_nothing_is_said() -> None:
    sample = np.random.default_rng(0).random(400)
    found = intervals(
        {"all": sample, "some": np.append(sample[:200], np.full(200, np.nan)), "one": np.ones(400)}
    )
    assert found["one"] == (1, 1)
    low, high = found["some"]
    assert low < sample[:200].mean() < high
    assert high - low > found["all"][1] - found["all"][0]


def test_the_words_of_items_are_their_categories(dataset: Dataset) -> None:
    shares = dataset.categories
    assert shares.shape[1] > 1
    assert set(np.unique(shares.sum(1).round(5)).tolist()) <= {0.0, 1.0}
    genres = [set(each or ()) for each in dataset.catalogue.table.column("genres").to_pylist()]
    assert ((shares > 0).sum(1) <= [len(each) for each in genres]).all()
