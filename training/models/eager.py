"""A torch module as a network, computed as it is: while training, and by the runtime `torch` on a CPU.

Does not belong here: any family's arithmetic; what an exported module looks like (`export`).
"""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.models.arrays import Float32
from training.models.network import Arrays, Signature


class EagerNetwork:
    """`training.models.network.TrainedNetwork` of a module in evaluation mode."""

    def __init__(self, module: nn.Module, signature: Signature) -> None:
        """Args:
        module: takes the signature's inputs in their order, gives its outputs: a tensor, or a tuple of them.
        """
        self.module, self._signature = module.eval(), signature

    @property
    def signature(self) -> Signature:
        return self._signature

    @torch.inference_mode()
    def __call__(self, inputs: Arrays) -> dict[str, Float32]:
        self._signature.check(inputs)
        given = [tensor_of(inputs[spec.name]) for spec in self._signature.inputs]
        names = [spec.name for spec in self._signature.outputs]
        found = outputs_of(self.module(*given))
        return {name: tensor.numpy() for name, tensor in zip(names, found, strict=True)}

    def arrays(self) -> dict[str, NDArray[Any]]:
        state = self.module.state_dict()
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in state.items()}

    def onnx(self) -> bytes:
        from training.models.export import export  # takes seconds to import

        return export(self.module, self._signature)


def tensor_of(array: NDArray[Any]) -> Tensor:
    """The array's own memory where torch may have it: it takes no read-only arrays, as a replica is given."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def outputs_of(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A module's result as a tuple."""
    return (result,) if isinstance(result, Tensor) else result
