"""What a network is to those who call it: named arrays in, named arrays out, for a batch.

Where it is computed is a runtime's affair (`serving.runtime`; `training.models.eager` while training), and
every runtime gives equal results. Does not belong here: torch, ONNX, or any family's arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from training.models.arrays import Float32

BATCH = "batch"
"""The first axis of every input and output; rows do not influence each other."""

Arrays = Mapping[str, NDArray[Any]]

DTYPES: Mapping[str, np.dtype[Any]] = {"float32": np.dtype(np.float32), "int64": np.dtype(np.int64)}

PARAMETERS = "network."
"""Begins the names of a component's arrays that are the network's own."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output.

    Attributes:
        dtype: a name in `DTYPES`; outputs are float32.
        axes: after the batch: a length, or the name of an axis whose length the call decides.
    """

    name: str
    dtype: str
    axes: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a network takes and gives.

    Attributes:
        sizes: axis → lengths worth preparing for, ascending. A call may be padded with zeros up to one of
            them; results do not depend on padding. A batch may be larger than the last (it is computed in
            parts), another axis may not.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    sizes: Mapping[str, tuple[int, ...]]

    def check(self, arrays: Arrays) -> dict[str, int]:
        """The length of every named axis in these inputs.

        Raises:
            ValueError: an input is missing or unknown, of another dtype or shape, or longer than `sizes`.
        """
        if arrays.keys() != {spec.name for spec in self.inputs}:
            wanted = ", ".join(spec.name for spec in self.inputs)
            raise ValueError(f"the network takes {wanted}; it was given {', '.join(arrays) or 'nothing'}")
        lengths: dict[str, int] = {}
        for spec in self.inputs:
            array, axes = arrays[spec.name], (BATCH, *spec.axes)
            if array.dtype != DTYPES[spec.dtype] or array.ndim != len(axes):
                raise ValueError(
                    f"{spec.name} must be {spec.dtype} of axes {axes}, not {array.dtype}{array.shape}"
                )
            for axis, length in zip(axes, array.shape, strict=True):
                expected = lengths.setdefault(axis, length) if isinstance(axis, str) else axis
                if length != expected:
                    raise ValueError(f"{spec.name} has {length} on axis {axis}, which is {expected}")
        for axis, length in lengths.items():
            if axis != BATCH and length > self.sizes[axis][-1]:
                raise ValueError(f"axis {axis} is {length}, at most {self.sizes[axis][-1]}")
        return lengths

    def to_json(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return asdict(self)

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> Signature:
        """What `to_json` gave, read again."""
        inputs, outputs = (
            tuple(TensorSpec(each["name"], each["dtype"], tuple(each["axes"])) for each in raw[side])
            for side in ("inputs", "outputs")
        )
        return Signature(inputs, outputs, {axis: tuple(sizes) for axis, sizes in raw["sizes"].items()})


class Network(Protocol):
    """A network that can be called."""

    @property
    def signature(self) -> Signature: ...

    def __call__(self, inputs: Arrays) -> dict[str, Float32]:
        """The outputs of a batch; raises ValueError where `inputs` are not as the signature says."""
        ...


@runtime_checkable
class TrainedNetwork(Network, Protocol):
    """A network with all that a bundle needs of it; those read from a bundle have it no more."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Its parameters, by the names of the module."""
        ...

    def onnx(self) -> bytes:
        """The serialised ONNX model; equal parameters give equal bytes."""
        ...
