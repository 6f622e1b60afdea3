"""The feed-forward block, mostly gated: SwiGLU or GEGLU (Shazeer 2020)."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from octavo_kernels import silu_mul
from octavo_runtime.layers.linear import Linear


@dataclass(frozen=True)
class MLP:
    """down(activation(gate(x)) * up(x)), or down(activation(up(x))). activation: of what gate_up brings, to
    intermediate."""

    gate_up: Linear  # hidden -> 2 * intermediate, or without a gate intermediate
    down: Linear  # intermediate -> hidden
    activation: Callable[[Tensor], Tensor] = silu_mul

    @property
    def num_bytes(self) -> int:
        return self.gate_up.num_bytes + self.down.num_bytes

    def __call__(self, hidden: Tensor) -> Tensor:
        """[tokens, hidden]."""
        return self.down(self.activation(self.gate_up(hidden)))
