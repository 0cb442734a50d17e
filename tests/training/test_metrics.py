from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import metrics

K, N = 5, 12
World = tuple[np.ndarray, list[np.ndarray]]
cutoffs = st.integers(1, K)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Lists of distinct items of N, some cut short by -1, and each user's relevant items, perhaps none."""
    users = draw(st.integers(1, 5))
    ranked = np.full((users, K), -1, np.int32)
    relevant = []
    for row in ranked:
        shown = draw(st.lists(st.integers(0, N - 1), unique=True, max_size=K))
        row[: len(shown)] = shown
        relevant.append(np.array(draw(st.lists(st.integers(0, N - 1), unique=True, max_size=8)), np.int32))
    return ranked, relevant


def lists(ranked: np.ndarray, k: int) -> list[list[int]]:
    return [[int(item) for item in row[:k] if item >= 0] for row in ranked]


def assert_equal(found: np.ndarray, expected: Sequence[float | None]) -> None:
    """None: nothing is said of the user."""
    known = [np.nan if value is None else value for value in expected]
    np.testing.assert_allclose(found, known, rtol=1e-5, atol=1e-6)


def test_by_hand() -> None:
    ranked = np.array([[7, 3, 9], [1, 2, 4]])
    hits = metrics.hits(ranked, [np.array([9, 3]), np.array([5])])
    assert hits.tolist() == [[False, True, True], [False, False, False]]
    relevant = np.array([2, 1])
    ideal = 1 + 1 / math.log2(3)
    assert_equal(metrics.ndcg(hits, relevant, 3), [(1 / math.log2(3) + 1 / 2) / ideal, 0])
    assert_equal(metrics.recall(hits, relevant, 2), [1 / 2, 0])
    assert_equal(metrics.precision(hits, relevant, 3), [2 / 3, 0])
    assert_equal(metrics.hit_rate(hits, relevant, 1), [0, 0])
    assert_equal(metrics.average_precision(hits, relevant, 3), [(1 / 2 + 2 / 3) / 2, 0])
    assert_equal(metrics.reciprocal_rank(hits, relevant, 3), [1 / 2, 0])
    assert metrics.coverage(ranked, 2, 10) == pytest.approx(4 / 10)
    counts = np.array([0, 0, 0, 4, 0, 0, 0, 1, 0, 0])
    assert_equal(metrics.novelty(ranked[:1], 2, counts, 8), [(3 + 1) / 2])
    expected = np.array([[3, 0, 1], [0, 1, 2]])
    assert_equal(metrics.serendipity(ranked, hits, 3, expected), [1 / 3, 0])


@given(worlds(), cutoffs)
def test_accuracy_equals_a_count_by_loop(world: World, k: int) -> None:
    ranked, relevant = world
    expected: dict[str, list[float | None]] = {name: [] for name in metrics.ACCURACY}
    for row, wanted in zip(ranked, relevant, strict=True):
        places = [p for p, item in enumerate(row[:k], start=1) if item in wanted]
        best = sum(1 / math.log2(p + 1) for p in range(1, min(k, len(wanted)) + 1))
        precisions = sum(sum(q <= p for q in places) / p for p in places)
        values = {
            "ndcg": lambda places=places, best=best: sum(1 / math.log2(p + 1) for p in places) / best,
            "recall": lambda places=places, wanted=wanted: len(places) / len(wanted),
            "hit rate": lambda places=places: float(bool(places)),
            "map": lambda sum=precisions, wanted=wanted: sum / min(k, len(wanted)),
            "mrr": lambda places=places: 1 / places[0] if places else 0.0,
            "precision": lambda places=places: len(places) / k,
        }
        for name, value in values.items():
            expected[name].append(value() if len(wanted) else None)
    hits, count = metrics.hits(ranked, relevant), np.array([len(r) for r in relevant])
    for name, measure in metrics.ACCURACY.items():
        assert_equal(measure(hits, count, k), expected[name])


@given(worlds(), cutoffs, st.integers(0, 99))
def test_diversity_equals_a_mean_over_pairs(world: World, k: int, seed: int) -> None:
    ranked, _ = world
    vectors = np.random.default_rng(seed).normal(size=(N, 3)).astype(np.float32)
    vectors[0] = 0
    expected: list[float | None] = []
    for row in lists(ranked, k):
        shown = [vectors[i].astype(float) for i in row]
        pairs = [1 - cosine(a, b) for i, a in enumerate(shown) for b in shown[:i]]
        expected.append(sum(pairs) / len(pairs) if pairs else None)
    assert_equal(metrics.intra_list_diversity(ranked, k, vectors), expected)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """0 where either has no direction."""
    return float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30)


@given(worlds(), cutoffs)
def test_coverage_gini_and_novelty_equal_a_count_by_loop(world: World, k: int) -> None:
    ranked, _ = world
    counts, shown = np.arange(N), lists(ranked, k)
    every = [item for row in shown for item in row]
    assert metrics.coverage(ranked, k, N) == pytest.approx(len(set(every)) / N)
    bits = [sum(-math.log2(max(i, 1) / 20) for i in row) / len(row) if row else None for row in shown]
    assert_equal(metrics.novelty(ranked, k, counts, 20), bits)
    places = [every.count(item) for item in range(N)]
    apart = sum(abs(one - other) for one in places for other in places)
    assert metrics.gini(ranked, k, N) == pytest.approx(apart / (2 * N * max(1, len(every))))


@given(worlds(), worlds(), cutoffs)
def test_serendipity_equals_a_count_by_loop(world: World, other: World, k: int) -> None:
    ranked, relevant = world
    expected = np.resize(other[0], ranked.shape)
    found = [
        sum(item in wanted and item not in usual for item in row) / k
        for row, wanted, usual in zip(lists(ranked, k), relevant, lists(expected, k), strict=True)
    ]
    assert_equal(metrics.serendipity(ranked, metrics.hits(ranked, relevant), k, expected), found)


@given(worlds(), cutoffs, st.integers(0, 99))
def test_miscalibration_is_the_divergence_of_distributions(world: World, k: int, seed: int) -> None:
    ranked, histories = world
    shares = np.random.default_rng(seed).random((N, 3)).astype(np.float32)
    shares[:, 2] *= shares[:, 2] > 0.5
    shares /= shares.sum(1, keepdims=True)
    shares[0] = 0
    expected: list[float | None] = []
    for row, past in zip(lists(ranked, k), histories, strict=True):
        met, given_ = shares[past].sum(0), shares[row].sum(0)
        if not met.sum() or not given_.sum():
            expected.append(None)
            continue
        p = met / met.sum()
        q = 0.99 * given_ / given_.sum() + 0.01 * p
        expected.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a))
    assert_equal(metrics.miscalibration(ranked, k, histories, shares), expected)


def test_a_list_with_the_categories_of_the_history_is_calibrated() -> None:
    shares = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]
    histories = [np.array([0, 1]), np.array([0, 2])]
    found = metrics.miscalibration(np.array([[2, 3], [1, 3]]), 2, histories, shares)
    assert_equal(found, [0, math.log(1 / 0.01)])


def test_perfect_lists_score_one_and_places_beyond_k_do_not_count() -> None:
    hits = np.array([[True, True, False], [True, False, False]])
    for name, measure in metrics.ACCURACY.items():
        if name != "precision":
            assert_equal(measure(hits, np.array([2, 1]), 2), [1, 1])
        assert_equal(measure(np.array([[False, False, True]]), np.array([1]), 2), [0])


def test_a_mean_is_over_those_of_whom_something_is_said() -> None:
    assert metrics.mean(np.array([0.5, np.nan, 1.0])) == 0.75
    assert metrics.mean(np.array([np.nan])) == 0


def test_k_beyond_the_lists_is_refused() -> None:
    with pytest.raises(ValueError, match="3 places"):
        metrics.recall(np.zeros((1, 3), bool), np.ones(1, np.int64), 4)
