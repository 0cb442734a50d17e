from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.training.models.worlds import one
from training.models.arrays import Float32
from training.models.blend import Blend, Calibration, fit_blend, fit_calibration
from training.models.ragged import Items, Ragged

NAMES = ("a", "b", "c")
USERS = 3
Scored = dict[str, tuple[Items, Float32]]


@dataclass(frozen=True)
class World:
    """Attributes:
    retrieved: source → items of each user with any scores, best first; some sources lost.
    limits: of each user.
    """

    model: Blend
    retrieved: dict[str, list[dict[int, float]]]
    limits: list[int]

    def scored(self, *users: int) -> Scored:
        return {
            name: (
                Ragged.of([np.array(list(found[user]), np.int32) for user in users], np.int32),
                np.array([score for user in users for score in found[user].values()], np.float32),
            )
            for name, found in self.retrieved.items()
        }


@st.composite
def worlds(draw: st.DrawFn) -> World:
    calibrations = {
        name: Calibration(draw(st.floats(-6, 3)), draw(st.sampled_from([0.0, 0.5, 2.0]))) for name in NAMES
    }
    quotas = {name: draw(st.integers(0, 4)) for name in NAMES}
    lists = st.dictionaries(st.integers(0, 30), st.floats(-3, 3, width=32), max_size=12).map(
        lambda found: dict(sorted(found.items(), key=lambda each: -each[1]))
    )
    retrieved = {
        name: [draw(lists) for _ in range(USERS)]
        for name in sorted(draw(st.sets(st.sampled_from(NAMES), min_size=1)))
    }
    return World(Blend(calibrations, quotas), retrieved, [draw(st.integers(0, 25)) for _ in range(USERS)])


@given(worlds())
def test_a_batch_equals_its_singles(world: World) -> None:
    """With a limit of each user's own, and with one of all."""
    blend = world.model.blend
    for limit in (np.array(world.limits, np.int64), world.limits[0]):
        limits = np.broadcast_to(limit, USERS).tolist()
        items, probability, bits = blend(world.scored(*range(USERS)), limit)
        assert len(items) == USERS
        for user in range(USERS):
            own, its_probability, its_bits = blend(world.scored(user), limits[user])
            assert items[user].tolist() == own.values.tolist()
            np.testing.assert_array_equal(probability[items.row == user], its_probability)
            assert bits[items.row == user].tolist() == its_bits.tolist()


@given(worlds())
def test_laws(world: World) -> None:
    blend, limit, retrieved = world.model, world.limits[0], world.retrieved
    found, probability, bits = blend.blend(world.scored(0), limit)
    items = found.values
    assert [each.dtype for each in (items, probability, bits)] == [np.int32, np.float32, np.uint32]
    every = {item for lists in retrieved.values() for item in lists[0]}
    expected = {
        item: 1 - math.prod(1 - 1 / (1 + math.exp(-(c.intercept + c.slope * retrieved[name][0][item])))
                            for name, c in blend.calibrations.items() if item in retrieved.get(name, [{}])[0])
        for item in every
    }  # fmt: skip
    # Nothing twice, nothing invented, probabilities joined, best first.
    assert len(set(items.tolist())) == len(items)
    assert set(items.tolist()) <= every
    joined = np.array([expected[item] for item in items.tolist()], np.float64)
    np.testing.assert_allclose(probability, joined, rtol=1e-4, atol=1e-7)
    assert (np.diff(probability) <= 0).all()
    # The bits are those of every source that retrieved the item.
    for item, mask in zip(items.tolist(), bits.tolist(), strict=True):
        sources = {name for name, lists in retrieved.items() if item in lists[0]}
        assert mask == sum(1 << i for i, name in enumerate(blend.names) if name in sources)
    # Every quota is kept, up to ties; the rest fills up to the limit with the best.
    for name, lists in retrieved.items():
        best = sorted(lists[0].values(), reverse=True)[: blend.quotas[name]]
        kept = sorted((lists[0][item] for item in items.tolist() if item in lists[0]), reverse=True)
        assert kept[: len(best)] == best
    quota = sum(min(blend.quotas[name], len(lists[0])) for name, lists in retrieved.items())
    assert min(limit, len(every)) <= len(items) <= max(limit, quota)
    if not any(blend.quotas.values()) and len(items) < len(every):
        worst_in = min((expected[item] for item in items.tolist()), default=1.0)
        assert worst_in >= max(expected[item] for item in every - set(items.tolist())) - 1e-6


def test_quotas_by_hand() -> None:
    """b would never win by probability, yet keeps its best one; item 2 is joined from both."""
    blend = Blend({"a": Calibration(0.0, 1.0), "b": Calibration(-5.0, 0.0)}, {"b": 1})
    scored = {
        "a": (one(1, 2, 3), np.array([2.0, 1.0, 0.0], np.float32)),
        "b": (one(9, 2), np.array([7.0, 6.0], np.float32)),
    }
    items, probability, bits = blend.blend(scored, 3)
    assert items[0].tolist() == [1, 2, 9]
    assert bits.tolist() == [1, 3, 2]
    wrong = (1 - 1 / (1 + math.exp(-1))) * (1 - 1 / (1 + math.exp(5)))
    assert probability[1] == pytest.approx(1 - wrong, rel=1e-5)


def test_a_source_without_calibration_is_refused() -> None:
    with pytest.raises(ValueError, match="no calibration for x"):
        Blend({}, {}).blend({"x": (one(0), np.zeros(1, np.float32))}, 5)


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
    scored = {"z": (one(4, 2), score[1:]), "a": (one(4), score[:1])}
    (items, *ours), (items_again, *theirs) = blend.blend(scored, 9), again.blend(scored, 9)
    np.testing.assert_array_equal(items.values, items_again.values)
    for column, column_again in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(column, column_again)


def test_a_source_that_retrieved_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="retrieved nothing"):
        fit_calibration(np.empty(0, np.float32), np.empty(0, bool))


def test_a_source_whose_hits_nobody_has_counted_is_kept_by_its_quota_alone() -> None:
    known = (np.array([2.0, 1.0], np.float32), np.array([True, False]))
    blend = fit_blend({"known": known}, {"known": 0, "own": 1})
    assert set(blend.names) == {"known", "own"}
    scored = {
        "known": (Ragged.of([np.array([4, 5], np.int32)], np.int32), np.array([2.0, 1.0], np.float32)),
        "own": (
            Ragged.of([np.array([9, 5, 1], np.int32)], np.int32),
            np.array([50.0, 40.0, 30.0], np.float32),
        ),
    }
    items, probability, bits = blend.blend(scored, 2)
    alone, before, _ = blend.blend({"known": scored["known"]}, 2)
    assert set(items.values.tolist()) == {4, 9}
    assert items.values[0] == alone.values[0] == 4
    assert probability[0] == before[0]
    assert probability[1] == 0
    assert bits.tolist() == [1 << blend.names.index("known"), 1 << blend.names.index("own")]
