from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.training.models.worlds import N_ITEMS, NOW, history, linear, scorer, statistics
from training.models.retrieval import SOURCES, Retrieval, top_k

scores = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=30)


@given(scores, st.integers(0, 35), st.integers(0, 10_000))
def test_top_k_equals_a_stable_sort(values: list[float], k: int, seed: int) -> None:
    allowed = np.random.default_rng(seed).random(len(values)) < 0.7
    items, found = top_k(np.array(values, np.float32), k, allowed)
    expected = sorted(np.flatnonzero(allowed).tolist(), key=lambda i: (-values[i], i))[:k]
    assert items.tolist() == expected
    assert items.dtype == np.int32
    assert found.tolist() == [values[i] for i in expected]


@given(st.integers(0, 10_000), st.integers(0, 12), st.integers(1, 50))
def test_each_source_brings_its_models_best_of_what_is_allowed(seed: int, length: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    retrieval = Retrieval(scorer(rng), linear(rng), linear(rng, 2.0), statistics(rng))
    past, allowed = history(rng, length), rng.random(N_ITEMS) < 0.8
    found = retrieval.retrieve(past, None, NOW, allowed, dict.fromkeys(SOURCES, size))
    assert tuple(found) == (SOURCES if length else ("popular",))
    full = {
        "two_tower": retrieval.two_tower.logits(past, None),
        "ease": retrieval.ease.score(past),
        "sequential": retrieval.sequential.score(past),
        "popular": retrieval.statistics.at(NOW).popularity_month,
    }
    for name, (items, values) in found.items():
        assert len(items) == len(set(items.tolist())) == min(size, allowed.sum())
        assert allowed[items].all()
        np.testing.assert_array_equal(values, full[name][items])
        left = np.setdiff1d(np.flatnonzero(allowed), items)
        assert (np.diff(values) <= 0).all()
        assert full[name][left].max(initial=-np.inf) <= values.min(initial=np.inf)


def test_a_source_that_is_not_named_is_not_asked() -> None:
    rng = np.random.default_rng(0)
    retrieval = Retrieval(scorer(rng), linear(rng), linear(rng), statistics(rng))
    found = retrieval.retrieve(history(rng, 3), None, NOW, np.ones(N_ITEMS, bool), {"ease": 4})
    assert list(found) == ["ease"]
    assert len(found["ease"][0]) == 4
