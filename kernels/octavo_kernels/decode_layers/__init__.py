"""All layers of a Llama-shaped decoder in one call, for a few sequences with one new token each.

With so few rows, what a layer computes takes less time than to call its operations one by one. The weights are packed
groups (octavo_kernels.quantized_linear); between them everything is float32. For CPUs alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from octavo_kernels.quantized_linear import PackedGroups


@dataclass(frozen=True)
class PackedProjection:
    """A packed weight and its bias [out]."""

    weight: PackedGroups
    bias: Tensor | None


@dataclass(frozen=True)
class PackedLayer:
    """One layer's weights. Norms are [hidden]."""

    attention_norm: Tensor
    qkv: PackedProjection  # hidden -> (heads + 2 * kv_heads) * head_dim
    output: PackedProjection  # heads * head_dim -> hidden
    mlp_norm: Tensor
    gate_up: PackedProjection  # hidden -> 2 * intermediate
    down: PackedProjection  # intermediate -> hidden

    @property
    def nbytes(self) -> int:
        return sum(each.weight.data.nbytes for each in (self.qkv, self.output, self.gate_up, self.down))


@dataclass(frozen=True)
class PackedDecoder:
    """A decoder's layers and its last norm [hidden]. rope: see `octavo_kernels.rotary`'s cos_sin."""

    layers: Sequence[PackedLayer]
    norm: Tensor
    rope: Tensor
    num_heads: int
    eps: float
