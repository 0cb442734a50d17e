import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.diversity.mmr import MMRSelector, mmr, mmr_rows
from serving.types import Diversity
from tests.serving.doubles import batch_of, query_of, run

FLOAT32 = st.floats(-1e3, 1e3, width=32)
strengths = st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0]) | st.floats(0, 1)


def unit_rows(seed: int, n: int, d: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def reference_value(
    relevance: np.ndarray, vectors: np.ndarray, chosen: list[int], row: int, strength: float
) -> float:
    """The definition, one row at a time, in float64."""
    low, high = float(relevance.min()), float(relevance.max())
    normalised = (float(relevance[row]) - low) / (high - low) if high > low else 0.0
    cosines = [float(vectors[row].astype(np.float64) @ vectors[c].astype(np.float64)) for c in chosen]
    return (1 - strength) * normalised - strength * (max(cosines) if cosines else 0.0)


@given(
    hnp.arrays(np.float32, st.integers(1, 30), elements=FLOAT32),
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.integers(0, 35),
    strengths,
)
def test_every_pick_is_the_definitions_best(
    relevance: np.ndarray, seed: int, d: int, count: int, strength: float
) -> None:
    vectors = unit_rows(seed, len(relevance), d)
    picks = mmr(relevance, vectors, count, strength).tolist()
    assert len(picks) == len(set(picks)) == min(count, len(relevance))
    if strength == 0:
        return  # the next test: exact, where this one allows for rounding
    for i, pick in enumerate(picks):
        left = [row for row in range(len(relevance)) if row not in picks[:i]]
        values = {row: reference_value(relevance, vectors, picks[:i], row, strength) for row in left}
        assert values[pick] >= max(values.values()) - 1e-5


@given(
    st.lists(hnp.arrays(np.float32, st.integers(0, 12), elements=FLOAT32), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
    st.integers(1, 12),
    st.lists(st.sampled_from([0.1, 0.3, 0.5, 1.0]), min_size=4, max_size=4),
)
def test_of_rows_each_has_its_own_choice(
    relevance: list[np.ndarray], seed: int, count: int, strengths: list[float]
) -> None:
    """Rows of unequal length, best first."""
    vectors = unit_rows(seed, 12 * len(relevance), 5).reshape(len(relevance), 12, 5)
    table = np.full((len(relevance), 12), -np.inf, np.float32)
    for row, own in enumerate(relevance):
        table[row, : len(own)] = -np.sort(-own)
    strength = np.array(strengths[: len(relevance)], np.float32)
    chosen = mmr_rows(table, vectors, count, strength)
    assert chosen.shape == (len(relevance), count)
    for row, own in enumerate(relevance):
        expected = mmr(table[row, : len(own)], vectors[row, : len(own)], count, float(strength[row]))
        assert chosen[row, : len(expected)].tolist() == expected.tolist()


@given(hnp.arrays(np.float32, st.integers(0, 40), elements=FLOAT32), st.integers(0, 45))
def test_strength_0_keeps_the_ranking_exactly(relevance: np.ndarray, count: int) -> None:
    picks = mmr(relevance, unit_rows(0, len(relevance), 4), count, 0.0)
    assert picks.tolist() == sorted(range(len(relevance)), key=lambda i: (-relevance[i], i))[:count]


def test_a_twin_of_the_best_waits_for_something_else() -> None:
    relevance = np.array([1.0, 0.99, 0.5], np.float32)
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert mmr(relevance, vectors, 3, 0.5).tolist() == [0, 2, 1]
    assert mmr(relevance, vectors, 3, 0.1).tolist() == [0, 1, 2]


def test_an_opposite_is_worth_more_than_a_stranger() -> None:
    vectors = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    assert mmr(np.ones(3, np.float32), vectors, 3, 0.5).tolist() == [0, 2, 1]


def test_a_span_beyond_float32_is_normalised_too() -> None:
    relevance = np.array([3e38, 0, -3e38], np.float32)
    assert mmr(relevance, np.eye(3, dtype=np.float32), 3, 0.3).tolist() == [0, 1, 2]


def mmr_query(count: int, strength: float = 0.5):  # type: ignore[no-untyped-def]  # parametrised by pytest
    return query_of(count=count, diversity=Diversity("mmr", strength))


@pytest.mark.parametrize(
    ("method", "strength", "enabled"), [("mmr", 0.3, True), ("mmr", 0.0, False), ("none", 1.0, False)]
)
def test_the_selector_runs_only_where_it_would_change_something(
    method: str, strength: float, enabled: bool
) -> None:
    selector = MMRSelector(np.eye(3, dtype=np.float32), pool=3)
    assert selector.enabled(query_of(diversity=Diversity(method, strength))) is enabled  # type: ignore[arg-type]  # parameters of a test are wider


@given(st.integers(0, 30), st.integers(1, 40), st.integers(1, 20), strengths)
def test_the_selector_returns_count_distinct_rows_of_the_pool(
    n: int, count: int, pool: int, strength: float
) -> None:
    batch = batch_of(np.random.default_rng(n).permutation(n))
    chosen = run(MMRSelector(unit_rows(1, 30, 4) * 3, pool).select(mmr_query(count, strength), batch))
    assert len(set(chosen.tolist())) == len(chosen) == min(count, n)
    assert all(0 <= row < min(n, max(pool, count)) for row in chosen)


def test_the_selector_compares_directions_not_lengths() -> None:
    vectors = np.array([[9, 0], [0.001, 0], [0, 5], [0, 0]], np.float32)
    batch = batch_of([0, 1, 2, 3]).with_score(np.array([1.0, 0.9, 0.8, 0.0], np.float32))
    assert run(MMRSelector(vectors, 4).select(mmr_query(2), batch)).tolist() == [0, 2]


def test_the_selector_falls_back_on_the_retrieval_score() -> None:
    batch = batch_of([0, 1, 2], [1.0, 0.99, 0.0])
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert run(MMRSelector(vectors, 3).select(mmr_query(2, 0.2), batch)).tolist() == [0, 1]
    assert run(MMRSelector(vectors, 3).select(mmr_query(2, 0.9), batch)).tolist() == [0, 2]
