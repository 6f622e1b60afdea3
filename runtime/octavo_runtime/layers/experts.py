"""The feed-forward block of a mixture of experts (Shazeer et al. 2017), with experts that all tokens go through beside
those that the router chooses (Dai et al. 2024)."""

from dataclasses import dataclass

from torch import Tensor

from octavo_kernels import experts
from octavo_kernels.experts import Biases, Weights
from octavo_runtime.layers.linear import Linear
from octavo_runtime.layers.mlp import MLP
from octavo_runtime.layers.router import Router


@dataclass(frozen=True)
class Experts:
    """gate_up: [experts, 2 * inner, hidden]; down: [experts, hidden, inner]; they, biases, limit: see
    octavo_kernels.experts. shared: what all tokens go through, times the sigmoid of shared_gate(x), where there is
    one. Of several ranks each has some of the inner width of all experts, or some of the experts, those from `first`
    on: what it computes is a part of a sum."""

    router: Router
    gate_up: Weights
    down: Weights
    shared: MLP | None = None
    shared_gate: Linear | None = None  # hidden -> 1
    biases: Biases | None = None
    limit: float | None = None
    first: int = 0

    @property
    def num_bytes(self) -> int:
        parts = self.router, self.shared, self.shared_gate
        biases = 0 if self.biases is None else self.biases.gate_up.nbytes + self.biases.down.nbytes
        weights = self.gate_up.nbytes + self.down.nbytes
        return weights + biases + sum(part.num_bytes for part in parts if part is not None)

    def __call__(self, hidden: Tensor) -> Tensor:
        """[tokens, hidden]."""
        ids, weights = self.router(hidden)
        if self.first:
            ids = ids - self.first
        among = self.router.routing.num_experts
        chosen = experts(hidden, self.gate_up, self.down, ids, weights, None, self.biases, self.limit, among)
        if self.shared is not None:
            shared = self.shared(hidden)
            if self.shared_gate is not None:
                shared = shared * self.shared_gate(hidden).sigmoid()
            chosen = chosen.add_(shared)
        return chosen
