"""What comes behind the pooling of a text's hidden states: projections to another vector, or to scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear, relu, sigmoid

from octavo_runtime.layers.activation import Transfer

_TRANSFERS: dict[Transfer, Callable[[Tensor], Tensor]] = {
    "identity": lambda states: states,
    "tanh": torch.tanh,
    "gelu": gelu,
    "relu": relu,
    "sigmoid": sigmoid,
}


@dataclass(frozen=True)
class TextNorm:
    """A LayerNorm in float32; weight, bias: [hidden]."""

    weight: Tensor
    bias: Tensor | None
    eps: float

    def __call__(self, states: Tensor) -> Tensor:
        """[texts, hidden]."""
        return layer_norm(states, self.weight.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True)
class TextLayer:
    """norm(transfer(x @ weight.T + bias)), in float32; weight: [out, in], bias: [out]."""

    weight: Tensor
    bias: Tensor | None
    transfer: Transfer = "identity"
    norm: TextNorm | None = None

    @property
    def num_bytes(self) -> int:
        norm = () if self.norm is None else (self.norm.weight, self.norm.bias)
        return sum(tensor.nbytes for tensor in (self.weight, self.bias, *norm) if tensor is not None)

    def __call__(self, pooled: Tensor) -> Tensor:
        """[texts, out] of [texts, in]."""
        states = _TRANSFERS[self.transfer](linear(pooled, self.weight, self.bias))
        return states if self.norm is None else self.norm(states)


@dataclass(frozen=True)
class TextHead:
    """Layers one behind another; without any it brings what it is given."""

    layers: Sequence[TextLayer] = ()

    @property
    def num_bytes(self) -> int:
        return sum(layer.num_bytes for layer in self.layers)

    def width(self, hidden_size: int) -> int:
        """Numbers that it brings of so many."""
        return len(self.layers[-1].weight) if self.layers else hidden_size

    def __call__(self, pooled: Tensor) -> Tensor:
        """[texts, out] of [texts, hidden], both float32."""
        for layer in self.layers:
            pooled = layer(pooled)
        return pooled
