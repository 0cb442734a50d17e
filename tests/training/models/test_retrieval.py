from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.models.worlds import (
    LENGTHS,
    N_ITEMS,
    NOW,
    USER_WIDTH,
    alone,
    base_models,
    floats,
    history,
    moments,
    one,
    ragged,
    statistics,
)
from training.models.ann import AnnIndex
from training.models.ragged import Ragged
from training.models.retrieval import SOURCES, Eligible, popular, retrieve, top_k
from training.models.scores import Scores

seeds = st.integers(0, 10_000)
TIED = [-np.inf, -1.0, 0.0, 0.5, 2.0]
EVERY = np.ones(N_ITEMS, bool)


@given(st.integers(0, 4), st.integers(1, 30), st.integers(0, 35), seeds)
def test_top_k_equals_a_stable_sort_of_every_row(rows: int, width: int, k: int, seed: int) -> None:
    values = np.random.default_rng(seed).choice(TIED, (rows, width)).astype(np.float32)
    items, found = top_k(values, k)
    assert items.values.dtype == np.int32
    assert len(items) == rows
    for row, own in enumerate(values.tolist()):
        expected = sorted((i for i in range(width) if own[i] > -np.inf), key=lambda i: (-own[i], i))[:k]
        assert items[row].tolist() == expected
        assert found[items.row == row].tolist() == [own[i] for i in expected]


def some_eligible(rng: np.random.Generator, lengths: list[int]) -> tuple[Eligible, np.ndarray]:
    """Filters shared by users, hidden items (a negative one names none), and what follows, bool [b, n]."""
    masks = rng.random((2, N_ITEMS)) < 0.8
    mask_of = rng.integers(0, 2, len(lengths))
    hidden = Ragged.of([rng.integers(-2, N_ITEMS, n).astype(np.int32) for n in lengths], np.int32)
    allowed = masks[mask_of]
    for row, items in enumerate(hidden):
        allowed[row, items[items >= 0]] = False
    return Eligible(masks, mask_of, hidden), allowed


@given(seeds, LENGTHS)
def test_eligible_is_what_the_filter_allows_and_nothing_hides(seed: int, lengths: list[int]) -> None:
    rng = np.random.default_rng(seed)
    eligible, allowed = some_eligible(rng, lengths)
    every = Ragged.of([np.arange(N_ITEMS, dtype=np.int32)] * len(lengths), np.int32)
    np.testing.assert_array_equal(eligible.allows(every), allowed.ravel())
    for row, own in enumerate(allowed):
        visible = eligible.matching(row).copy()
        visible[eligible.hidden[row][eligible.hidden[row] >= 0]] = False
        np.testing.assert_array_equal(visible, own)
    scores = rng.choice([*TIED, np.nan], allowed.shape).astype(np.float32)
    given_scores = scores.copy()
    expected = np.where(allowed & ~np.isnan(scores), scores, -np.inf)
    np.testing.assert_array_equal(eligible.of(scores), expected)
    np.testing.assert_array_equal(scores, given_scores)
    hidden = eligible.hidden
    plain = Eligible.all_but(hidden, eligible.masks[0])
    assert plain.allows(every).sum() == sum(
        eligible.masks[0][item] and item not in hidden[row]
        for row in range(len(lengths))
        for item in every[row]
    )


@given(seeds, LENGTHS, st.integers(1, 50))
def test_each_source_retrieves_its_models_best_of_what_is_eligible(
    seed: int, lengths: list[int], size: int
) -> None:
    rng = np.random.default_rng(seed)
    models, pasts = base_models(rng), ragged(rng, lengths)
    scores = Scores(models, pasts, floats(rng, len(lengths), USER_WIDTH))
    eligible, allowed = some_eligible(rng, lengths)
    now = moments(rng, len(lengths))
    found = retrieve(scores, models.statistics, now, eligible, dict.fromkeys(SOURCES, size))
    assert tuple(found) == SOURCES
    for row, past in enumerate(pasts):
        for name, (items, values) in found.items():
            own, score = items[row], values[items.row == row]
            if name == "popular":
                full = models.statistics.at(now[row]).popularity_month
            else:
                full = scores.of_all(name)[row]
            asked = name == "popular" or len(past) > 0
            assert len(own) == len(set(own.tolist())) == asked * min(size, allowed[row].sum())
            assert allowed[row][own].all()
            np.testing.assert_array_equal(score, full[own])
            assert (np.diff(score) <= 0).all()
            if asked:
                left = np.setdiff1d(np.flatnonzero(allowed[row]), own)
                assert full[left].max(initial=-np.inf) <= score.min(initial=np.inf)


@given(seeds, LENGTHS)
def test_a_batch_equals_its_singles(seed: int, lengths: list[int]) -> None:
    rng = np.random.default_rng(seed)
    models, pasts, users = base_models(rng), ragged(rng, lengths), floats(rng, len(lengths), USER_WIDTH)
    eligible, _ = some_eligible(rng, lengths)
    now, sizes = moments(rng, len(lengths)), dict.fromkeys(SOURCES, 7)
    scores = Scores(models, pasts, users)
    batch = retrieve(scores, models.statistics, now, eligible, sizes)
    for row in range(len(lengths)):
        own = Eligible(eligible.masks, eligible.mask_of[row : row + 1], alone(eligible.hidden, row))
        single = Scores(models, alone(pasts, row), users[row : row + 1])
        for name, (items, values) in retrieve(
            single, models.statistics, now[row : row + 1], own, sizes
        ).items():
            together, value = batch[name][0][row], batch[name][1][batch[name][0].row == row]
            np.testing.assert_allclose(value, values, atol=1e-4)
            # Items may change places where rounding makes the difference; then both have the same score.
            if name == "popular":
                assert together.tolist() == items.values.tolist()
            else:
                np.testing.assert_allclose(single.of_all(name)[0, together], values, atol=1e-4)


def test_a_source_that_is_not_named_is_not_asked() -> None:
    rng = np.random.default_rng(0)
    models = base_models(rng)
    scores = Scores(models, one(*history(rng, 3)), floats(rng, 1, USER_WIDTH))
    found = retrieve(scores, models.statistics, np.array([NOW]), Eligible.all_but(one(), EVERY), {"ease": 4})
    assert list(found) == ["ease"]
    assert len(found["ease"][0].values) == 4


@given(seeds, LENGTHS, st.integers(1, 50), st.integers(1, 5))
def test_popular_looks_beyond_its_head_where_that_is_hidden(
    seed: int, lengths: list[int], size: int, head: int
) -> None:
    rng = np.random.default_rng(seed)
    eligible, allowed = some_eligible(rng, lengths)
    now = moments(rng, len(lengths))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.models.statistics.HEAD", head)
        log = statistics(rng)
        items, score = popular(log, now, eligible, size)
    full = np.array([log.at(moment).popularity_month for moment in now]).reshape(allowed.shape)
    expected, values = top_k(np.where(allowed, full, np.float32(-np.inf)), size)
    np.testing.assert_array_equal(items.row_splits, expected.row_splits)
    np.testing.assert_array_equal(items.values, expected.values)
    np.testing.assert_array_equal(score, values)


@given(seeds, LENGTHS, st.integers(1, 50))
def test_the_nearest_by_an_index_are_the_best_of_all_scores(seed: int, lengths: list[int], size: int) -> None:
    rng = np.random.default_rng(seed)
    models, pasts = base_models(rng), ragged(rng, lengths)
    features = floats(rng, len(lengths), USER_WIDTH)
    eligible, _ = some_eligible(rng, lengths)
    expected, values = Scores(models, pasts, features).best("two_tower", eligible, size)
    models.two_tower.index = AnnIndex(models.two_tower.item_vectors)  # so small that it looks everywhere
    items, score = Scores(models, pasts, features).best("two_tower", eligible, size)
    np.testing.assert_array_equal(items.row_splits, expected.row_splits)
    np.testing.assert_allclose(score, values, atol=1e-4)
