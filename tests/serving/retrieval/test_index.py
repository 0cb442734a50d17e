import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.retrieval.index import ExactIndex, top_k

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
