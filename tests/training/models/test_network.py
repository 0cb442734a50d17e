"""Signatures: what they accept, and that a bundle keeps them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.models.network import Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("events", "float32", ("length", 3)), TensorSpec("length", "int64", ())),
    (TensorSpec("vectors", "float32", (3,)),),
    {"batch": (1, 4), "length": (2, 5)},
)


def arrays(batch: int, length: int) -> dict[str, np.ndarray[Any, Any]]:
    return {"events": np.zeros((batch, length, 3), np.float32), "length": np.zeros(batch, np.int64)}


@given(st.integers(0, 9), st.integers(0, 5))
def test_any_batch_and_every_length_up_to_the_longest_are_taken(batch: int, length: int) -> None:
    assert SIGNATURE.check(arrays(batch, length)) == {"batch": batch, "length": length}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"events": np.zeros((2, 6, 3), np.float32)}, "at most 5"),
        ({"events": np.zeros((2, 2, 4), np.float32)}, "axis 3"),
        ({"events": np.zeros((2, 2, 3))}, "float64"),
        ({"events": np.zeros((2, 3), np.float32)}, "float32"),
        ({"length": np.zeros(3, np.int64)}, "axis batch"),
        ({"other": np.zeros(2, np.int64)}, "takes events, length"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, np.ndarray[Any, Any]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SIGNATURE.check({**arrays(2, 2), **change})


def test_a_signature_is_the_same_after_json() -> None:
    assert Signature.from_json(json.loads(json.dumps(SIGNATURE.to_json()))) == SIGNATURE
