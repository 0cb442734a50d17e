from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import save_file

from training.mapped import DTYPES, mapped

some_arrays = st.dictionaries(
    st.sampled_from(["a", "b", "c d", "é"]),
    st.sampled_from(sorted(DTYPES.values())).flatmap(
        lambda kind: arrays.arrays(np.dtype(kind), arrays.array_shapes(min_dims=0, max_dims=3, min_side=0))
    ),
    min_size=1,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some_arrays, st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2))
def test_gives_what_the_library_wrote(
    tmp_path: Path, written: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    save_file(
        {name: np.ascontiguousarray(each) for name, each in written.items()}, tmp_path / "x", metadata or None
    )
    found, said = mapped(tmp_path / "x")
    assert said == metadata
    assert found.keys() == written.keys()
    for name, array in written.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == np.ascontiguousarray(array).shape
        assert found[name].tobytes() == array.tobytes()


def test_what_is_mapped_cannot_be_written_and_outlives_its_file(tmp_path: Path) -> None:
    save_file({"a": np.arange(3)}, tmp_path / "x")
    array = mapped(tmp_path / "x")[0]["a"]
    (tmp_path / "x").unlink()
    assert array.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def forged(**entry: Any) -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **entry}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(8)


@pytest.mark.parametrize(
    "content",
    [
        b"12345678",
        (1 << 60).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{",
        forged(dtype="F8_E4M3"),
        forged(shape=[3]),
        forged(shape=[-2]),
        forged(shape=[4], data_offsets=[0, 16]),
        forged(data_offsets=[-8, 0]),
    ],
)
def test_a_file_that_is_cut_short_or_lies_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011 - each says another thing
        mapped(tmp_path / "x")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(ValueError, match="empty"):
        mapped(tmp_path / "x")
