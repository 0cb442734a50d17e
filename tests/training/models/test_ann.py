"""What every index owes its caller, and what only the approximate one does."""

import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.models import ann
from training.models.ann import AnnIndex, approximate
from training.models.index import BLOCK, ExactIndex, VectorIndex, top_k

D = 16


def neighbourhoods(n: int, seed: int = 0) -> np.ndarray:
    """A cluster to a hundred items, on the unit sphere: what an inverted file is made for."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((n // 100, D), dtype=np.float32)
    rows = centres[rng.integers(0, len(centres), n)] + 0.3 * rng.standard_normal((n, D), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


VECTORS = neighbourhoods(BLOCK + 2_000)
INDICES: dict[str, VectorIndex] = {
    "exact": ExactIndex(VECTORS[:3_000]),
    "exact in blocks": ExactIndex(VECTORS),
    "ann": AnnIndex(VECTORS),
    "ann of few": AnnIndex(VECTORS[:100]),
}
SIZES = {"exact": 3_000, "exact in blocks": len(VECTORS), "ann": len(VECTORS), "ann of few": 100}


def allow_share(share: float) -> Callable[[int], np.ndarray]:
    return lambda n: np.random.default_rng(n).random(n) < share


MASKS: dict[str, Callable[[int], np.ndarray | None]] = {
    "no mask": lambda n: None,
    "most": allow_share(0.9),
    "a tenth": allow_share(0.1),
    "hardly any": allow_share(0.01),
    "none": allow_share(0.0),
    "a far corner": lambda n: VECTORS[:n, 0] < -0.3,  # not where queries with a high first entry look
}


@pytest.mark.parametrize("name", INDICES)
@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 7, 100, 500, 20_000]), st.sampled_from(sorted(MASKS))
)
def test_every_index_keeps_the_contract(name: str, seed: int, k: int, mask: str) -> None:
    n = SIZES[name]
    query = np.random.default_rng(seed).standard_normal(D, dtype=np.float32)
    allowed = MASKS[mask](n)

    index, score = INDICES[name].search(query, k, allowed)

    assert (index.dtype, score.dtype) == (np.int32, np.float32)
    assert len(index) == len(score) == min(k, n if allowed is None else np.count_nonzero(allowed))
    assert len(np.unique(index)) == len(index)
    assert allowed is None or allowed[index].all()
    assert (np.diff(score) <= 0).all()
    np.testing.assert_allclose(score, VECTORS[index] @ query, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", INDICES)
def test_every_index_gives_ties_to_the_lower_item(name: str) -> None:
    index, score = INDICES[name].search(np.zeros(D, np.float32), 5)
    assert score.tolist() == [0] * 5
    assert index.tolist() == sorted(index.tolist())


@pytest.mark.parametrize("name", INDICES)
def test_every_index_refuses_what_it_cannot_answer(name: str) -> None:
    with pytest.raises(ValueError, match="at least 0, not -1"):
        INDICES[name].search(np.ones(D, np.float32), -1)
    with pytest.raises(ValueError, match=r"\[16\]|mismatch|not aligned"):
        INDICES[name].search(np.ones(D + 1, np.float32), 3)


@pytest.mark.parametrize("name", INDICES)
def test_every_index_finds_nothing_for_a_query_of_nans(name: str) -> None:
    assert len(INDICES[name].search(np.full(D, np.nan, np.float32), 3)[0]) == 0


@pytest.mark.parametrize(
    ("mask", "least"),
    # A tenth of clusters of a hundred: most of the answer lies outside of the query's own.
    [("no mask", 0.95), ("most", 0.95), ("a tenth", 0.8), ("hardly any", 1.0)],
)
def test_an_ann_finds_nearly_all_of_the_exact_answer(mask: str, least: float) -> None:
    allowed = MASKS[mask](len(VECTORS))
    queries = neighbourhoods(5_000, seed=0)[:50] + np.float32(0.05)
    shares = []
    for query in queries:
        exact = INDICES["exact in blocks"].search(query, 100, allowed)[0]
        shares.append(np.isin(exact, INDICES["ann"].search(query, 100, allowed)[0]).mean())
    assert np.mean(shares) >= least


def test_the_recall_it_states_is_the_recall_of_the_queries_given() -> None:
    queries = neighbourhoods(3_000, seed=5)[:40]
    index = AnnIndex(VECTORS, queries)
    shares = [
        np.isin(top_k(VECTORS @ query, 100)[0], index.search(query, 100)[0]).mean() for query in queries
    ]
    assert index.recall == pytest.approx(np.mean(shares), abs=0.002)  # products in a batch round otherwise


def test_more_recall_is_bought_with_more_lists() -> None:
    cheap, dear = AnnIndex(VECTORS, recall=0.0), AnnIndex(VECTORS, recall=1.1)
    assert cheap.recall < dear.recall
    assert cheap._probes < dear._probes == np.ceil(dear._lists * ann.PROBES[-1])


def test_equal_vectors_build_equal_indices() -> None:
    query = VECTORS[17] + np.float32(0.1)
    first, again = (AnnIndex(VECTORS).search(query, 100) for _ in range(2))
    assert first[0].tolist() == again[0].tolist()
    assert first[1].tobytes() == again[1].tobytes()


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        (np.zeros(3, np.float32), r"not float32 \[3\]"),
        (np.zeros((0, 2), np.float32), "at least one vector"),
        (np.array([[np.nan, 0]], np.float32), "NaN or an infinity"),
    ],
)
def test_unusable_vectors_are_refused(vectors: np.ndarray, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        AnnIndex(vectors)


def test_without_faiss_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ModuleNotFoundError, match="pip install faiss-cpu"):
        AnnIndex(VECTORS)


@pytest.mark.parametrize("mask", MASKS)
def test_a_stored_one_finds_the_same(mask: str) -> None:
    made = AnnIndex(VECTORS)
    again = AnnIndex.stored(VECTORS, made.serialised(), made.probes, made.recall)
    query, allowed = VECTORS[17] + np.float32(0.1), MASKS[mask](len(VECTORS))
    for one, other in zip(made.search(query, 100, allowed), again.search(query, 100, allowed), strict=True):
        assert one.tobytes() == other.tobytes()
    assert again.recall == made.recall


def test_none_for_a_small_catalogue_and_faiss_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert approximate(VECTORS) is None


def test_one_with_its_recall_for_a_large_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ann, "APPROXIMATE_FROM", len(VECTORS))
    index = approximate(VECTORS)
    assert index is not None
    assert index.recall >= ann.RECALL


def test_none_where_an_ann_would_miss_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ann, "APPROXIMATE_FROM", 1_000)
    noise = np.random.default_rng(0).standard_normal((20_000, 64), dtype=np.float32)
    assert approximate(noise) is None
