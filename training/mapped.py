"""safetensors files without reading them: arrays that lie in the file, and in memory once on a machine,
however many processes read them. The library's own reader copies each array.
Format: huggingface.co/docs/safetensors, "Format".

Does not belong here: what the arrays are.
"""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BOOL": "?",
    **{f"I{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
}
"""What the format calls numpy's."""

HEADER_BYTES = 100 << 20
"""The format's own limit."""


def mapped(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The arrays of a file, read-only, and its metadata.

    Raises:
        ValueError: it is no safetensors file, or cut short.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    length = int.from_bytes(memory[:8], "little")
    if not 0 < length <= min(HEADER_BYTES, len(memory) - 8):
        raise ValueError(f"{path.name} is no safetensors file")
    header: dict[str, Any] = json.loads(memory[8 : 8 + length])
    metadata: dict[str, str] = header.pop("__metadata__", {})
    return {name: _array(memory, 8 + length, name, **entry) for name, entry in header.items()}, metadata


def _array(
    memory: mmap.mmap, start: int, name: str, dtype: str, shape: list[int], data_offsets: list[int]
) -> NDArray[Any]:
    if dtype not in DTYPES:
        raise ValueError(f"{name} is of a type that is not read: {dtype}")
    kind, (begin, end) = np.dtype(DTYPES[dtype]), data_offsets
    count = int(np.prod(shape, dtype=np.int64))
    if count * kind.itemsize != end - begin or not 0 <= begin <= end <= len(memory) - start:
        raise ValueError(f"{name} does not lie within its file")
    if not count:
        return np.empty(shape, kind)
    return np.frombuffer(memory, kind, count, start + begin).reshape(shape)
