from dataclasses import replace
from itertools import pairwise
from time import monotonic

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench.result import Spread
from loadtests.bench.shapes import shaped
from loadtests.bench.suites import scale
from loadtests.bench.suites.scale import Lost, section
from training.recipe import default

seconds = st.lists(st.floats(1e-5, 1), min_size=3, max_size=3).map(lambda values: Spread(tuple(values)))


@given(st.dictionaries(st.sampled_from(["items", "users"]), st.tuples(seconds, seconds), min_size=1))
def test_every_size_is_held_against_the_first_of_its_axis(measured: dict[str, tuple[Spread, Spread]]) -> None:
    found = section({axis: dict(zip((10, 100), sizes, strict=True)) for axis, sizes in measured.items()})
    rows = {(row[0], row[1]): row for row in found.tables[0].rows}
    for axis, (base, grown) in measured.items():
        assert rows[axis, 10][2:] == (1, Spread(tuple(1e3 * s for s in base.values)), Spread((1.0,) * 3))
        assert rows[axis, 100][2] == 10
        assert rows[axis, 100][4] == grown.over(base)


@pytest.mark.parametrize("events", [1, 20])
def test_visitors_have_as_many_different_items_as_said(events: int) -> None:
    queries = scale.sessions(shaped(100, 170), events)
    for query in queries:
        history = query.history
        assert len(np.unique(history.item_index)) == len(history) == events
        assert all(earlier < later for earlier, later in pairwise(history.timestamp.tolist()))
        assert history.timestamp[-1] < query.now
    assert len({query.history.item_index.tobytes() for query in queries}) > 1


def test_users_are_spread_over_all_of_them() -> None:
    world = shaped(100, 170)
    asked = [query.user_id for query in scale.known(world)]
    assert len(set(asked)) == scale.DIFFERENT
    assert set(asked) <= set(world.user_ids)


@pytest.mark.parametrize("factor", [1, 2])
def test_candidates_grow_with_the_factor(factor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    composed = []
    compose = scale.compose
    monkeypatch.setattr(scale, "compose", lambda *given: composed.append(given) or compose(*given))
    scale.pipeline(shaped(100, 170), factor)
    [(bundle, _, config)] = composed
    limits = {
        stage.name: stage.options["limit"]
        for stage in bundle.declaration.pipelines["recommend"].stages
        if "limit" in stage.options
    }
    usual = default()
    assert limits == {name: factor * size for name, size in usual.sizes.items()} | {
        "calibrated": factor * usual.candidates
    }
    assert config.cache.items == 0


async def test_a_whole_answer_may_be_timed_and_a_degraded_one_may_not() -> None:
    world = shaped(100, 170)
    store, query = world.store(), replace(scale.known(world)[0], deadline=monotonic() + 60)
    ask = scale.pipeline(world, store=store)
    await ask([query, query])
    await store.close()
    with pytest.raises(Lost, match="features"):
        await ask([query])
