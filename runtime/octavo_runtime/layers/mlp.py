"""The gated feed-forward block, SwiGLU (Shazeer 2020)."""

from dataclasses import dataclass

from torch import Tensor

from octavo_kernels import silu_mul
from octavo_runtime.layers.linear import Linear


@dataclass(frozen=True)
class MLP:
    """down(silu(gate(x)) * up(x))."""

    gate_up: Linear  # hidden -> 2 * intermediate
    down: Linear  # intermediate -> hidden

    @property
    def num_bytes(self) -> int:
        return self.gate_up.num_bytes + self.down.num_bytes

    def __call__(self, hidden: Tensor) -> Tensor:
        """[tokens, hidden]."""
        return self.down(silu_mul(self.gate_up(hidden)))
