"""What reads the residual stream: RMSNorm (Zhang and Sennrich 2019), LayerNorm (Ba et al. 2016), or nothing."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from octavo_kernels import add_rms_norm, rms_norm
from octavo_runtime.layers.linear import Linear


class HeadNorm(Protocol):
    """Queries or keys [tokens, heads, head_dim], normalised, in the type of the norm's weight."""

    @property
    def num_bytes(self) -> int:
        """Bytes of memory that the weights take."""

    def heads(self, states: Tensor) -> Tensor: ...


class Norm(Protocol):
    """The residual stream [tokens, hidden] as the layers read it, in the type of their weights, once `added`, where
    there is any, is added to it in place."""

    @property
    def num_bytes(self) -> int:
        """Bytes of memory that the weights take."""

    def __call__(self, stream: Tensor, added: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True)
class Unnormed:
    """The stream itself. dtype: of the layers' weights."""

    dtype: torch.dtype
    num_bytes: int = 0

    def __call__(self, stream: Tensor, added: Tensor | None = None) -> Tensor:
        """See Norm."""
        return (stream if added is None else stream.add_(added)).to(self.dtype)


@dataclass(frozen=True)
class LayerNorm:
    """weight, bias: [hidden]. becomes_stream: what it brings takes the place of the residual stream (Vaswani et al.
    2017)."""

    weight: Tensor
    bias: Tensor | None
    eps: float
    becomes_stream: bool = False

    @property
    def num_bytes(self) -> int:
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def __call__(self, stream: Tensor, added: Tensor | None = None) -> Tensor:
        """See Norm."""
        if added is not None:
            stream.add_(added)
        weight, bias = self.weight.to(stream.dtype), None if self.bias is None else self.bias.to(stream.dtype)
        normed = layer_norm(stream, self.weight.shape, weight, bias, self.eps)
        if self.becomes_stream:
            stream.copy_(normed)
        return normed.to(self.weight.dtype)


@dataclass(frozen=True)
class ProjectedNorm:
    """A norm, and a projection of what it brings."""

    norm: Norm
    projection: Linear

    @property
    def num_bytes(self) -> int:
        return self.norm.num_bytes + self.projection.num_bytes

    def __call__(self, stream: Tensor, added: Tensor | None = None) -> Tensor:
        """See Norm; [tokens, out]."""
        return self.projection(self.norm(stream, added))


@dataclass(frozen=True)
class RMSNorm:
    """weight: [hidden], to which `offset` is added where it multiplies. multiplier: of what is added to the residual
    stream."""

    weight: Tensor
    eps: float
    multiplier: float = 1.0
    offset: float = 0.0

    @property
    def num_bytes(self) -> int:
        return self.weight.nbytes

    def __call__(self, stream: Tensor, added: Tensor | None = None) -> Tensor:
        """See Norm."""
        if added is None:
            return rms_norm(stream, self.weight, self.eps, offset=self.offset)
        return add_rms_norm(added, stream, self.weight, self.eps, stream, self.multiplier, self.offset)[0]

    def heads(self, states: Tensor) -> Tensor:
        """Queries or keys [tokens, heads, head_dim], each head normalised by itself, or all heads of a token together;
        weight: [head_dim] or [heads * head_dim]."""
        whole = states if len(self.weight) == states.shape[2] else states.flatten(1)
        return rms_norm(whole, self.weight, self.eps, offset=self.offset).view(states.shape)


@dataclass(frozen=True)
class HeadLayerNorm:
    """A LayerNorm without bias of each head by itself. weight: [heads, head_dim]."""

    weight: Tensor
    eps: float

    @property
    def num_bytes(self) -> int:
        return self.weight.nbytes

    def heads(self, states: Tensor) -> Tensor:
        """See HeadNorm. Computed in float32."""
        normed = layer_norm(states.float(), states.shape[-1:], eps=self.eps)
        return (normed * self.weight).to(self.weight.dtype)
