"""The feed-forward block, mostly gated: SwiGLU or GEGLU (Shazeer 2020)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

from torch import Tensor
from torch.nn.functional import gelu, relu, silu

from octavo_kernels import gate_mul
from octavo_kernels.gate_mul import GatedActivation
from octavo_runtime.layers.activation import Activation
from octavo_runtime.layers.linear import GroupedLinear, Linear, Norming
from octavo_runtime.layers.residual import Normed, project

_UNGATED: Mapping[Activation, Callable[[Tensor], Tensor]] = {
    "silu": silu,
    "gelu_tanh": partial(gelu, approximate="tanh"),
    "gelu": gelu,
    "relu": relu,
    "relu2": lambda inner: relu(inner).square(),  # Primer (So et al. 2021)
}


@dataclass(frozen=True)
class MLP:
    """down(activation(gate(x)) * up(x)), or without a gate down(activation(up(x)))."""

    gate_up: Linear  # hidden -> 2 * intermediate, or without a gate intermediate
    down: Linear  # intermediate -> hidden
    activation: Activation = "silu"
    is_gated: bool = True

    @property
    def num_bytes(self) -> int:
        return self.gate_up.num_bytes + self.down.num_bytes

    def __call__(self, hidden: Tensor) -> Tensor:
        """[tokens, hidden]."""
        if self.rounds(hidden):
            assert isinstance(self.down, GroupedLinear)
            return self.down.of_gated(self.gate_up(hidden), cast("GatedActivation", self.activation))
        return self.down(self.inner(hidden))

    def rounds(self, hidden: Tensor) -> bool:
        """Whether what the gate makes is rounded for `down` as it is computed, so that there is no `inner`."""
        return self.is_gated and isinstance(self.down, GroupedLinear) and self.down.rounds(hidden)

    def inner(self, hidden: Normed) -> Tensor:
        """[tokens, intermediate], what `down` multiplies."""
        gate_up = self.gate_up
        if not self.is_gated:
            return _UNGATED[self.activation](project(gate_up, hidden))
        activation = cast("GatedActivation", self.activation)
        if isinstance(gate_up, Norming) and gate_up.gates_for(hidden):
            return gate_up.gated(hidden, activation)
        return gate_mul(project(gate_up, hidden), activation)
