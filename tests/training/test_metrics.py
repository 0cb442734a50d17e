from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import metrics

K = 5


@st.composite
def worlds(draw: st.DrawFn) -> tuple[np.ndarray, list[np.ndarray]]:
    """Lists of distinct items of 12, some cut short by -1, and each user's relevant items, perhaps none."""
    users = draw(st.integers(1, 5))
    ranked = np.full((users, K), -1, np.int32)
    relevant = []
    for row in ranked:
        shown = draw(st.lists(st.integers(0, 11), unique=True, max_size=K))
        row[: len(shown)] = shown
        relevant.append(np.array(draw(st.lists(st.integers(0, 11), unique=True, max_size=8)), np.int32))
    return ranked, relevant


def test_by_hand() -> None:
    ranked = np.array([[7, 3, 9], [1, 2, 4]])
    hits = metrics.hits(ranked, [np.array([9, 3]), np.array([5])])
    assert hits.tolist() == [[False, True, True], [False, False, False]]
    relevant = np.array([2, 1])
    ideal = 1 + 1 / math.log2(3)
    assert metrics.ndcg(hits, relevant, 3) == pytest.approx((1 / math.log2(3) + 1 / 2) / ideal / 2)
    assert metrics.recall(hits, relevant, 2) == pytest.approx(0.5 / 2)
    assert metrics.coverage(ranked, 2, 10) == pytest.approx(4 / 10)
    assert metrics.novelty(ranked[:1], 2, np.array([0, 0, 0, 4, 0, 0, 0, 1, 0, 0]), 8) == pytest.approx(
        (3 + 1) / 2
    )


@given(worlds(), st.integers(1, K))
def test_accuracy_equals_a_count_by_loop(world: tuple[np.ndarray, list[np.ndarray]], k: int) -> None:
    ranked, relevant = world
    ndcg, recall = [], []
    for row, wanted in zip(ranked, relevant, strict=True):
        if not len(wanted):
            continue
        places = [p for p, item in enumerate(row[:k], start=1) if item in wanted]
        best = sum(1 / math.log2(p + 1) for p in range(1, min(k, len(wanted)) + 1))
        ndcg.append(sum(1 / math.log2(p + 1) for p in places) / best)
        recall.append(len(places) / len(wanted))
    hits, count = metrics.hits(ranked, relevant), np.array([len(r) for r in relevant])
    assert metrics.ndcg(hits, count, k) == pytest.approx(mean(ndcg))
    assert metrics.recall(hits, count, k) == pytest.approx(mean(recall))


@given(worlds(), st.integers(1, K), st.integers(0, 99))
def test_diversity_equals_a_mean_over_pairs(
    world: tuple[np.ndarray, list[np.ndarray]], k: int, seed: int
) -> None:
    ranked, _ = world
    vectors = np.random.default_rng(seed).normal(size=(12, 3)).astype(np.float32)
    vectors[0] = 0
    lists = []
    for row in ranked[:, :k]:
        shown = [vectors[i].astype(float) for i in row if i >= 0]
        pairs = [(a, b) for i, a in enumerate(shown) for b in shown[:i]]
        if pairs:
            lists.append(mean([1 - cosine(a, b) for a, b in pairs]))
    assert metrics.intra_list_diversity(ranked, k, vectors) == pytest.approx(mean(lists), abs=1e-6)


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """0 where either has no direction."""
    return float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30)


@given(worlds(), st.integers(1, K))
def test_coverage_and_novelty_equal_a_count_by_loop(
    world: tuple[np.ndarray, list[np.ndarray]], k: int
) -> None:
    ranked, _ = world
    counts = np.arange(12)
    shown = [[int(i) for i in row[:k] if i >= 0] for row in ranked]
    assert metrics.coverage(ranked, k, 12) == pytest.approx(len({i for row in shown for i in row}) / 12)
    means = [sum(-math.log2(max(i, 1) / 20) for i in row) / len(row) for row in shown if row]
    assert metrics.novelty(ranked, k, counts, 20) == pytest.approx(sum(means) / len(means) if means else 0.0)


def test_perfect_lists_score_one_and_places_beyond_k_do_not_count() -> None:
    hits = np.array([[True, True, False], [True, False, False]])
    assert metrics.ndcg(hits, np.array([2, 1]), 2) == pytest.approx(1)
    late = np.array([[False, False, True]])
    assert metrics.ndcg(late, np.array([1]), 2) == 0


def test_k_beyond_the_lists_is_refused() -> None:
    with pytest.raises(ValueError, match="3 places"):
        metrics.recall(np.zeros((1, 3), bool), np.ones(1, np.int64), 4)
