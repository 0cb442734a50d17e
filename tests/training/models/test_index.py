import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.models.index import BLOCK, ExactIndex, _Leaders, top_k

few = st.sampled_from([-1.0, -0.0, 0.0, 1.0])
any_float = st.floats(width=32)


@given(st.data())
def test_top_k_is_what_sorting_everything_gives(data: st.DataObject) -> None:
    scores = data.draw(st.lists(few, max_size=60) | st.lists(any_float, max_size=60))
    allowed = data.draw(
        st.none() | st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)).map(np.array)
    )
    k = data.draw(st.integers(0, len(scores) + 1))

    mask = None if allowed is None else allowed.astype(np.bool_)
    index, score = top_k(np.array(scores, np.float32), k, mask)

    eligible = [
        i for i, s in enumerate(scores) if (allowed is None or allowed[i]) and not np.isnan(s) and s > -np.inf
    ]
    expected = sorted(eligible, key=lambda i: (-np.float32(scores[i]), i))[:k]
    assert index.tolist() == expected
    assert score.tolist() == [float(np.float32(scores[i])) for i in expected]
    assert (index.dtype, score.dtype) == (np.int32, np.float32)


def test_the_last_place_of_equals_goes_to_the_lower_index() -> None:
    index, _ = top_k(np.array([0, 1, 0, 2, 1, 1], np.float32), 3)
    assert index.tolist() == [3, 1, 4]


def test_top_k_leaves_its_arguments_alone() -> None:
    scores, allowed = np.arange(5, dtype=np.float32), np.array([True, False, True, True, False])
    top_k(scores, 2, allowed)
    assert scores.tolist() == [0, 1, 2, 3, 4]
    assert allowed.tolist() == [True, False, True, True, False]


def test_a_negative_k_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0, not -1"):
        top_k(np.zeros(3, np.float32), -1)


def test_search_ranks_allowed_items_by_inner_product() -> None:
    vectors = np.array([[1, 0], [0, 1], [2, 0], [1, 0], [-1, 0]], np.float32)
    index, score = ExactIndex(vectors).search(
        np.array([1, 0], np.float32), 3, np.array([True, True, False, True, True])
    )
    assert index.tolist() == [0, 3, 1]
    assert score.tolist() == [1, 1, 0]


def test_search_repeats_itself() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((3_000, 64), dtype=np.float32)
    first = ExactIndex(vectors).search(vectors[7], 100)
    again = ExactIndex(vectors).search(vectors[7], 100)
    assert first[0].tolist() == again[0].tolist()
    assert first[1].tobytes() == again[1].tobytes()


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        (np.zeros(3, np.float32), r"not float32 \[3\]"),
        (np.zeros((3, 2), np.float64), r"not float64 \[3, 2\]"),
        (np.array([[np.nan, 0]], np.float32), "NaN or an infinity"),
    ],
)
def test_unusable_vectors_are_refused(vectors: np.ndarray, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ExactIndex(vectors)


@given(st.data())
def test_scores_in_pieces_have_the_top_k_of_the_whole(data: st.DataObject) -> None:
    scores = np.array(
        data.draw(st.lists(few, min_size=1, max_size=80) | st.lists(any_float, min_size=1)), np.float32
    )
    mask = data.draw(
        st.none() | st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)).map(np.array)
    )
    cuts = data.draw(st.lists(st.integers(0, len(scores)), max_size=8).map(sorted))
    k = data.draw(st.integers(1, len(scores) + 1))

    leaders = _Leaders(k)
    for start, end in itertools.pairwise([0, *cuts, len(scores)]):
        scratch = scores[start:end].copy()
        leaders.offer(start, scratch, None if mask is None else mask[start:end])
        scratch[:] = np.inf  # the next piece overwrites it
    index, score = leaders.best()

    expected = top_k(scores, k, mask)
    assert index.tolist() == expected[0].tolist()
    assert score.tolist() == expected[1].tolist()
    assert (index.dtype, score.dtype) == (np.int32, np.float32)


sizes = st.sampled_from([1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 7])
shares = st.sampled_from([None, 0.0, 1e-4, 0.03, 0.0625, 0.5, 1.0])


@settings(max_examples=40, deadline=None)
@given(sizes, st.sampled_from([1, 3, 8]), st.integers(0, 300), shares, st.integers(0, 2**32 - 1))
def test_every_size_gives_the_plain_paths_answer(
    n: int, d: int, k: int, share: float | None, seed: int
) -> None:
    """Small whole numbers: products without rounding, and more ties than places."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-3, 4, (n, d)).astype(np.float32)
    query = rng.integers(-3, 4, d).astype(np.float32)
    allowed = None if share is None else rng.random(n) < share

    index, score = ExactIndex(vectors).search(query, k, allowed)

    expected = top_k(vectors @ query, k, allowed)
    assert index.tolist() == expected[0].tolist()
    assert score.tolist() == expected[1].tolist()
    assert (index.dtype, score.dtype) == (np.int32, np.float32)


@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_sorted_scores_are_no_trap(order: str) -> None:
    """Ascending: every item passes the bar there was before it."""
    vectors = np.arange(3 * BLOCK, dtype=np.float32)[:, None]
    if order == "descending":
        vectors = vectors[::-1]
    index, _ = ExactIndex(vectors).search(np.ones(1, np.float32), 5)
    best = np.arange(5) if order == "descending" else 3 * BLOCK - 1 - np.arange(5)
    assert index.tolist() == best.tolist()


def test_rounding_apart_blocks_rank_as_one_product_does() -> None:
    rng = np.random.default_rng(2)
    vectors = rng.standard_normal((2 * BLOCK + 100, 64), dtype=np.float32)
    query = vectors[3]
    scores = vectors.astype(np.float64) @ query
    index, score = ExactIndex(vectors).search(query, 200)
    np.testing.assert_allclose(score, scores[index], rtol=0, atol=1e-4)
    assert scores[index].min() >= np.sort(scores)[-200] - 1e-4
    assert len(set(index.tolist())) == 200


@pytest.mark.parametrize("n", [10, BLOCK + 1])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_query_that_is_not_finite_finds_nothing_or_infinities(n: int, bad: float) -> None:
    """An infinite query scores +inf, -inf or NaN; only the first is a score to return."""
    vectors = np.ones((n, 2), np.float32)
    with np.errstate(invalid="ignore"):  # the BLAS of some processors says that infinity times 0 is no number
        index, score = ExactIndex(vectors).search(np.array([bad, 0], np.float32), 3)
    assert index.tolist() == ([] if np.isnan(bad) else [0, 1, 2])
    assert np.isposinf(score).all()


@pytest.mark.parametrize("n", [10, BLOCK + 1])
def test_a_search_refuses_a_negative_k_and_answers_none_for_0(n: int) -> None:
    index = ExactIndex(np.ones((n, 2), np.float32))
    with pytest.raises(ValueError, match="at least 0, not -1"):
        index.search(np.ones(2, np.float32), -1)
    assert [len(part) for part in index.search(np.ones(2, np.float32), 0)] == [0, 0]
