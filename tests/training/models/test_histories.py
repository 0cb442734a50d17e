from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.training.models.worlds import N_ITEMS, sequences
from training.models import histories


@given(st.integers(0, 10_000), st.integers(1, 20))
def test_padded_equals_a_slice_of_each_history(seed: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    offsets, items = sequences(rng)
    events = rng.permutation(len(items))
    rectangle = histories.padded(offsets, items, events, length, N_ITEMS)
    assert rectangle.shape == (len(events), length)
    for row, event in zip(rectangle, events, strict=True):
        start = max(o for o in offsets if o <= event)
        before = items[start:event][::-1][:length]
        assert row.tolist() == [*before, *[N_ITEMS] * (length - len(before))]
