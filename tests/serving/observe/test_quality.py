"""Measures of served lists, against their definitions written out."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving.observe.quality import coverage, intra_list_distances, overlap, population_stability

SCORES = arrays.arrays(np.float32, st.integers(1, 200), elements=st.floats(-100, 100, width=32))


def scores(mean: float, n: int = 5_000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1, n).astype(np.float32)


@given(SCORES, SCORES)
def test_stability_is_finite_never_negative_and_blind_to_order(
    expected: np.ndarray, actual: np.ndarray
) -> None:
    found = population_stability(expected, actual)
    assert 0 <= found < np.inf
    assert population_stability(expected[::-1], np.sort(actual)) == pytest.approx(found)


@given(SCORES)
def test_a_sample_is_stable_against_itself(sample: np.ndarray) -> None:
    assert population_stability(sample, sample) == 0


def test_stability_is_the_sum_over_deciles() -> None:
    """100 scores, ten to a decile, against 100 in the lowest."""
    expected = np.arange(100, dtype=np.float32)
    lowest = np.zeros(100, np.float32)
    full, empty, even = 100.5 / 105, 0.5 / 105, 10.5 / 105
    by_hand = (full - even) * np.log(full / even) + 9 * (empty - even) * np.log(empty / even)
    assert population_stability(expected, lowest) == pytest.approx(by_hand)


def test_a_larger_shift_gives_a_larger_index_and_none_stays_below_what_counts_as_one() -> None:
    same, small, large = (population_stability(scores(0), scores(shift, seed=1)) for shift in (0, 0.5, 2))
    assert same < 0.01 < 0.1 < small < large


def test_scores_that_are_not_finite_are_left_out() -> None:
    sample = scores(0)
    broken = np.concatenate([sample, np.array([np.nan, np.inf, -np.inf], np.float32)])
    assert population_stability(sample, broken) == 0
    with pytest.raises(ValueError, match="no distribution"):
        population_stability(sample, np.array([np.nan], np.float32))


LISTS = st.lists(arrays.arrays(np.int32, st.integers(0, 8), elements=st.integers(0, 19)), max_size=8)


@given(LISTS)
def test_coverage_is_the_share_of_items_that_occur(lists: list[np.ndarray]) -> None:
    assert coverage(lists, 20) == len({int(item) for items in lists for item in items}) / 20


@given(
    arrays.arrays(np.float32, (12, 3), elements=st.sampled_from([-2.0, -0.5, 0.0, 1.0, 3.0])),
    st.lists(st.lists(st.integers(0, 11), min_size=2, max_size=12, unique=True), min_size=1, max_size=4),
)
def test_distance_is_the_mean_over_all_pairs(features: np.ndarray, lists: list[list[int]]) -> None:
    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
        return float(a @ b) / lengths if lengths else 0.0

    found = intra_list_distances([np.array(items, np.int32) for items in lists], features)
    assert len(found) == len(lists)
    for items, distance in zip(lists, found, strict=True):
        pairs = [1 - cosine(features[a], features[b]) for a, b in combinations(items, 2)]
        assert distance == pytest.approx(np.mean(pairs), abs=1e-5)
        assert -1e-5 <= distance <= 2 + 1e-5


IDS = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8)


@given(IDS, IDS)
def test_overlap_is_symmetric_and_whole_for_equal_sets_only(ours: list[str], theirs: list[str]) -> None:
    found = overlap(ours, theirs)
    assert found == overlap(theirs, ours)
    assert 0 <= found <= 1
    assert (found == 1) == (set(ours) == set(theirs))
    assert (found == 0) == (not set(ours) & set(theirs) and bool(ours or theirs))


def test_overlap_is_of_the_longer_list() -> None:
    assert overlap("abcd", "ab") == 0.5
