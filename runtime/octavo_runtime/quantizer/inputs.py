"""What a projection multiplies: the moments of its inputs over the calibration texts."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from octavo_runtime.layers.linear import Linear
from octavo_runtime.layers.mlp import MLP
from octavo_runtime.quantizer.recipe import CannotQuantize


@dataclass
class Inputs:
    """gram: [columns, columns] float32, the mean of x xT; sizes: [columns] float32, the mean of |x|. With the first the
    error of any change of a weight in its outputs is known, without the inputs themselves."""

    gram: Tensor
    sizes: Tensor

    def scaled(self, scales: Tensor) -> "Inputs":
        """Those of x / scales [columns]."""
        return Inputs(self.gram / scales / scales.unsqueeze(1), self.sizes / scales)


def output_error(change: Tensor, inputs: Inputs) -> Tensor:
    """Mean square of what a change [rows, columns] of a weight changes in its outputs, summed over them; scalar."""
    return ((change @ inputs.gram) * change).sum()


@dataclass
class InputSum:
    """Sums over tokens, of which Inputs are the means."""

    gram: Tensor
    sizes: Tensor
    tokens: int = 0

    def add(self, x: Tensor) -> None:
        """x: [tokens, columns]."""
        wide = x.float()
        self.gram.addmm_(wide.T, wide)
        self.sizes += wide.abs().sum(0)
        self.tokens += len(x)

    def means(self) -> Inputs:
        """Frees the sums. Raises CannotQuantize where no weight can be chosen by them."""
        if not self.gram.isfinite().all():
            raise CannotQuantize("model: must compute with finite numbers, the texts bring NaN or infinity to a layer")
        return Inputs(self.gram.div_(self.tokens), self.sizes.div_(self.tokens))


def input_sum(columns: int, device: torch.device) -> InputSum:
    """A sum over no tokens yet."""
    return InputSum(torch.zeros(columns, columns, device=device), torch.zeros(columns, device=device))


@dataclass(frozen=True)
class WatchedLinear:
    """A projection that adds what it multiplies to a sum."""

    linear: Linear
    sum: InputSum = field(repr=False)

    @property
    def num_bytes(self) -> int:
        return self.linear.num_bytes

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """See Linear."""
        self.sum.add(x)
        return self.linear(x, out)


def watched_mlp(mlp: MLP, gate_up: InputSum, down: InputSum) -> MLP:
    """An MLP that adds what both of its projections multiply to their sums."""
    return replace(mlp, gate_up=WatchedLinear(mlp.gate_up, gate_up), down=WatchedLinear(mlp.down, down))
