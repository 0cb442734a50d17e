from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from training.models.blend import Blend, Calibration, fit_blend, fit_calibration

NAMES = ("a", "b", "c")
Scored = dict[str, tuple[np.ndarray, np.ndarray]]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Blend, Scored, int]:
    """Sources of distinct items and any scores, some sources lost."""
    calibrations = {
        name: Calibration(draw(st.floats(-6, 3)), draw(st.sampled_from([0.0, 0.5, 2.0]))) for name in NAMES
    }
    quotas = {name: draw(st.integers(0, 4)) for name in NAMES}
    scored = {}
    for name in draw(st.sets(st.sampled_from(NAMES))):
        items = draw(st.lists(st.integers(0, 30), unique=True, max_size=12))
        scores = draw(st.lists(st.floats(-3, 3, width=32), min_size=len(items), max_size=len(items)))
        scored[name] = (np.array(items, np.int32), np.array(scores, np.float32))
    return Blend(calibrations, quotas), scored, draw(st.integers(0, 25))


def best_first(found: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(-found[1], kind="stable")
    return found[0][order], found[1][order]


def table(found: list[tuple[np.ndarray, np.ndarray]], absent: int) -> tuple[np.ndarray, np.ndarray]:
    """One row each, filled up with an item that stands for none."""
    shape = len(found), max(len(items) for items, _ in found)
    items, scores = np.full(shape, absent, np.int32), np.zeros(shape, np.float32)
    for row, (own, score) in enumerate(found):
        items[row, : len(own)], scores[row, : len(own)] = own, score
    return items, scores


@given(worlds(), st.integers(0, 2**32 - 1))
def test_of_rows_each_has_its_own_blend(world: tuple[Blend, Scored, int], seed: int) -> None:
    blend, scored, limit = world
    if not scored:
        return
    rng = np.random.default_rng(seed)
    users = [
        {name: best_first((items[keep], score[keep])) for name, (items, score) in scored.items()
         for keep in [rng.random(len(items)) < share]}
        for share in (0.0, 0.5, 1.0)
    ]  # fmt: skip
    tables = {name: table([user[name] for user in users], 31) for name in scored}
    items, probability, bits = blend.blend_rows(tables, limit, 31)
    for row, user in enumerate(users):
        there = items[row] < 31
        expected = blend.blend(user, limit)
        assert items[row, there].tolist() == expected[0].tolist()
        np.testing.assert_array_equal(probability[row, there], expected[1])
        assert bits[row, there].tolist() == expected[2].tolist()


@given(worlds())
def test_laws(world: tuple[Blend, Scored, int]) -> None:
    blend, scored, limit = world
    items, probability, bits = blend.blend(scored, limit)
    assert (items.dtype, probability.dtype, bits.dtype) == (np.int32, np.float32, np.uint32)
    brought = {name: dict(zip(*map(np.ndarray.tolist, found), strict=True)) for name, found in scored.items()}
    every = {item for found in brought.values() for item in found}
    expected = {
        item: 1 - math.prod(1 - 1 / (1 + math.exp(-(c.intercept + c.slope * brought[name][item])))
                            for name, c in blend.calibrations.items() if item in brought.get(name, {}))
        for item in every
    }  # fmt: skip
    # Nothing twice, nothing invented, probabilities joined, best first.
    assert len(set(items.tolist())) == len(items)
    assert set(items.tolist()) <= every
    np.testing.assert_allclose(probability, [expected[item] for item in items.tolist()], rtol=1e-4, atol=1e-7)
    assert (np.diff(probability) <= 0).all()
    # The bits are those of every source that brought the item.
    for item, mask in zip(items.tolist(), bits.tolist(), strict=True):
        assert mask == sum(1 << i for i, name in enumerate(blend.names) if item in brought.get(name, {}))
    # Every quota is kept, up to ties; the rest fills up to the limit with the best.
    for name, found in brought.items():
        best = sorted(found.values(), reverse=True)[: blend.quotas[name]]
        kept = sorted((found[item] for item in items.tolist() if item in found), reverse=True)
        assert kept[: len(best)] == best
    quota = sum(min(blend.quotas[name], len(found)) for name, found in brought.items())
    assert min(limit, len(every)) <= len(items) <= max(limit, quota)
    if not any(blend.quotas.values()) and len(items) < len(every):
        worst_in = min((expected[item] for item in items.tolist()), default=1.0)
        assert worst_in >= max(expected[item] for item in every - set(items.tolist())) - 1e-6


def test_quotas_by_hand() -> None:
    """b would never win by probability, yet keeps its best one; item 2 is joined from both."""
    blend = Blend({"a": Calibration(0.0, 1.0), "b": Calibration(-5.0, 0.0)}, {"b": 1})
    scored = {
        "a": (np.array([1, 2, 3], np.int32), np.array([2.0, 1.0, 0.0], np.float32)),
        "b": (np.array([9, 2], np.int32), np.array([7.0, 6.0], np.float32)),
    }
    items, probability, bits = blend.blend(scored, 3)
    assert items.tolist() == [1, 2, 9]
    assert bits.tolist() == [1, 3, 2]
    wrong = (1 - 1 / (1 + math.exp(-1))) * (1 - 1 / (1 + math.exp(5)))
    assert probability[1] == pytest.approx(1 - wrong, rel=1e-5)


def test_a_source_without_calibration_is_refused() -> None:
    with pytest.raises(ValueError, match="no calibration for x"):
        Blend({}, {}).blend({"x": (np.zeros(1, np.int32), np.zeros(1, np.float32))}, 5)


def test_fit_finds_the_curve_that_made_the_data() -> None:
    rng = np.random.default_rng(0)
    score = (300 + 40 * rng.standard_normal(50_000)).astype(np.float32)  # far from standard units
    taken = rng.random(50_000) < 1 / (1 + np.exp(-(-12 + 0.03 * score)))
    found = fit_calibration(score, taken)
    assert found.intercept == pytest.approx(-12, rel=0.1)
    assert found.slope == pytest.approx(0.03, rel=0.1)


@example([(0.0, False), (1.401298464324817e-45, False)])  # a spread that float32 can only just tell from none
@given(st.lists(st.tuples(st.floats(-1e4, 1e4, width=32), st.booleans()), min_size=1, max_size=60))
def test_fit_is_finite_monotone_and_fair(rows: list[tuple[float, bool]]) -> None:
    """Whatever the data: no infinite slope on separable scores, no order turned round, and the mean
    probability is the smoothed share of hits."""
    score = np.array([s for s, _ in rows], np.float32)
    taken = np.array([t for _, t in rows])
    found = fit_calibration(score, taken)
    assert math.isfinite(found.intercept)
    assert math.isfinite(found.slope)
    assert found.slope >= 0
    hits = int(taken.sum())
    target = np.where(taken, (hits + 1) / (hits + 2), 1 / (len(taken) - hits + 2))
    assert found.probability(score).mean() == pytest.approx(target.mean(), abs=0.01)


def test_fit_blend_and_round_trip() -> None:
    score, taken = np.array([0.1, 0.9, 0.8], np.float32), np.array([False, True, True])
    blend = fit_blend({"z": (score, taken), "a": (score, ~taken)}, {"z": 2})
    assert blend.names == ("z", "a")
    assert blend.calibrations["z"].slope > 0 == blend.calibrations["a"].slope
    again = Blend.from_component(blend.to_component())
    assert again.names == blend.names
    scored = {"z": (np.array([4, 2], np.int32), score[:2]), "a": (np.array([4], np.int32), score[:1])}
    for ours, theirs in zip(blend.blend(scored, 9), again.blend(scored, 9), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_source_that_brought_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="brought nothing"):
        fit_calibration(np.empty(0, np.float32), np.empty(0, bool))
