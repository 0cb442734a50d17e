import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.batch import Candidates, Queries
from serving.diversity.mmr import MMRSelector, mmr
from serving.types import Diversity, DiversityMethod, Query
from tests.serving.doubles import batch_of, queries_of, query_of

FLOAT32 = st.floats(-1e3, 1e3, width=32)
strengths = st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0]) | st.floats(0, 1)


def unit_rows(seed: int, *shape: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal(shape)
    unit: np.ndarray = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return unit


def picked(relevance: np.ndarray, vectors: np.ndarray, count: int, strength: float) -> list[int]:
    """For one request, which has as many rows as there are."""
    chosen = mmr(relevance[None], vectors[None], count, np.array([strength], np.float32))
    return [int(row) for row in chosen[0]]


def reference_value(
    relevance: np.ndarray, vectors: np.ndarray, chosen: list[int], row: int, strength: float
) -> float:
    """The definition, one row at a time, in float64."""
    low, high = float(relevance.min()), float(relevance.max())
    normalised = (float(relevance[row]) - low) / (high - low) if high > low else 0.0
    cosines = [float(vectors[row].astype(np.float64) @ vectors[c].astype(np.float64)) for c in chosen]
    return (1 - strength) * normalised - strength * (max(cosines) if cosines else 0.0)


@given(
    st.lists(hnp.arrays(np.float32, st.integers(1, 12), elements=FLOAT32), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.integers(0, 12),
    st.lists(strengths, min_size=4, max_size=4),
)
def test_every_pick_is_the_definitions_best_whatever_else_is_in_the_batch(
    relevance: list[np.ndarray], seed: int, d: int, count: int, several: list[float]
) -> None:
    """Requests of unequal length, best first, each with its own strength."""
    b, width = len(relevance), max(map(len, relevance))
    vectors = unit_rows(seed, b, width, d)
    table = np.full((b, width), -np.inf, np.float32)
    for row, own in enumerate(relevance):
        table[row, : len(own)] = -np.sort(-own)
    strength = np.array(several[:b], np.float32)
    chosen = mmr(table, vectors, min(count, width), strength)
    assert chosen.shape == (b, min(count, width))
    for row, own in enumerate(relevance):
        best_first, own_vectors = table[row, : len(own)], vectors[row, : len(own)]
        picks = [int(pick) for pick in chosen[row, : min(count, len(own))]]
        assert len(picks) == len(set(picks))
        assert all(0 <= pick < len(own) for pick in picks)
        if strength[row] == 0:
            assert picks == list(range(len(picks)))
            continue
        for i, pick in enumerate(picks):
            values = {
                left: reference_value(best_first, own_vectors, picks[:i], left, float(strength[row]))
                for left in range(len(own))
                if left not in picks[:i]
            }
            assert values[pick] >= max(values.values()) - 1e-5
        assert picks == picked(best_first, own_vectors, len(picks), float(strength[row]))


def test_a_twin_of_the_best_waits_for_something_else() -> None:
    relevance = np.array([1.0, 0.99, 0.5], np.float32)
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert picked(relevance, vectors, 3, 0.5) == [0, 2, 1]
    assert picked(relevance, vectors, 3, 0.1) == [0, 1, 2]


def test_an_opposite_is_worth_more_than_a_stranger() -> None:
    vectors = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    assert picked(np.ones(3, np.float32), vectors, 3, 0.5) == [0, 2, 1]


def test_a_span_beyond_float32_is_normalised_too() -> None:
    relevance = np.array([3e38, 0, -3e38], np.float32)
    assert picked(relevance, np.eye(3, dtype=np.float32), 3, 0.3) == [0, 1, 2]


def mmr_query(count: int, strength: float = 0.5) -> Query:
    return query_of(count=count, diversity=Diversity("mmr", strength))


def selected(selector: MMRSelector, asked: Queries, found: Candidates) -> list[list[int]]:
    return [places.tolist() for places in selector.select(asked, found)]


@pytest.mark.parametrize(
    ("method", "strength", "taken"), [("mmr", 0.3, True), ("mmr", 0.0, False), ("none", 1.0, False)]
)
def test_the_selector_is_for_requests_where_it_would_change_something(
    method: DiversityMethod, strength: float, taken: bool
) -> None:
    asked = queries_of(query_of(diversity=Diversity(method, strength)), mmr_query(1))
    assert MMRSelector.takes(asked).tolist() == [taken, True]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 40), strengths), max_size=4), st.integers(1, 20))
def test_the_selector_returns_count_distinct_rows_of_the_pool(
    several: list[tuple[int, int, float]], pool: int
) -> None:
    asked = queries_of(*(mmr_query(count, strength) for _, count, strength in several))
    found = batch_of(*(np.random.default_rng(n).permutation(n) for n, *_ in several))
    chosen = selected(MMRSelector(unit_rows(1, 30, 4) * 3, pool), asked, found)
    for (n, count, _), start, places in zip(several, found.row_splits.tolist(), chosen, strict=False):
        assert len(set(places)) == len(places) == min(count, n)
        assert all(start <= place < start + min(n, max(pool, count)) for place in places)


def test_the_selector_compares_directions_not_lengths() -> None:
    vectors = np.array([[9, 0], [0.001, 0], [0, 5], [0, 0]], np.float32)
    found = batch_of([0, 1, 2, 3]).with_score(np.array([1.0, 0.9, 0.8, 0.0], np.float32))
    assert selected(MMRSelector(vectors, 4), queries_of(mmr_query(2)), found) == [[0, 2]]


def test_the_selector_falls_back_on_the_retrieval_score() -> None:
    found = batch_of([0, 1, 2], scores=[1.0, 0.99, 0.0])
    selector = MMRSelector(np.array([[1, 0], [1, 0], [0, 1]], np.float32), 3)
    assert selected(selector, queries_of(mmr_query(2, 0.2)), found) == [[0, 1]]
    assert selected(selector, queries_of(mmr_query(2, 0.9)), found) == [[0, 2]]
