"""What comes behind the pooling of a text's hidden states: projections to another vector, or to scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear, relu, sigmoid

from octavo_runtime.models.spec import Transfer

_TRANSFERS: dict[Transfer, Callable[[Tensor], Tensor]] = {
    "identity": lambda states: states,
    "tanh": torch.tanh,
    "gelu": gelu,
    "relu": relu,
    "sigmoid": sigmoid,
}


@dataclass(frozen=True)
class TextLayer:
    """transfer(x @ weight.T + bias), in float32; weight: [out, in], bias: [out]."""

    weight: Tensor
    bias: Tensor | None
    transfer: Transfer = "identity"


@dataclass(frozen=True)
class TextHead:
    """Layers one behind another; without any it brings what it is given."""

    layers: Sequence[TextLayer] = ()

    @property
    def num_bytes(self) -> int:
        tensors = [tensor for layer in self.layers for tensor in (layer.weight, layer.bias)]
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)

    def width(self, hidden_size: int) -> int:
        """Numbers that it brings of so many."""
        return len(self.layers[-1].weight) if self.layers else hidden_size

    def __call__(self, pooled: Tensor) -> Tensor:
        """[texts, out] of [texts, hidden], both float32."""
        for layer in self.layers:
            pooled = _TRANSFERS[layer.transfer](linear(pooled, layer.weight, layer.bias))
        return pooled
