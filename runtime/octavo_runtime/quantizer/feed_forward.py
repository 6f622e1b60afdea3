"""The MLPs of a layer: its one, or those that a router chooses from and the one beside them that all tokens go through.

What a chosen one multiplies is worked out when it is asked for, from what the layer's experts are given: the moments of
all of them together are far larger than that."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from octavo_runtime.layers.linear import DenseLinear
from octavo_runtime.layers.mlp import MLP
from octavo_runtime.models.loading.stored_tensors import rows_of
from octavo_runtime.models.loading.tensor_shapes import Fused, layer_projections
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.quantizer.inputs import Inputs, input_sum, watched_mlp
from octavo_runtime.quantizer.recipe import FEWEST_TOKENS

_AT_ONCE = 8192  # tokens


class FeedForward(NamedTuple):
    """expert: its number among those that the router chooses from; None: all tokens go through it."""

    gate_up: Fused
    down: Fused
    expert: int | None = None


@dataclass(frozen=True)
class Routed:
    """What a layer's experts are given, hidden [tokens, hidden], and which of them each token chose, ids [tokens, k]
    int64."""

    hidden: Tensor
    ids: Tensor

    def share(self, expert: int) -> float:
        """Of all tokens, how many chose an expert."""
        return float(self._chose(expert).float().mean())

    def has_few(self, expert: int) -> bool:
        """Whether fewer than FEWEST_TOKENS chose it."""
        return int(self._chose(expert).sum()) < FEWEST_TOKENS

    def of(self, expert: int) -> Tensor:
        """[n, hidden], what the tokens that chose an expert bring it, and of others, in even distances, as many as are
        lacking."""
        chose = self._chose(expert)
        mine, others = chose.nonzero().flatten(), (~chose).nonzero().flatten()
        lacking = min(max(FEWEST_TOKENS - len(mine), 0), len(others))
        places = torch.arange(lacking, device=others.device) * len(others) // max(lacking, 1)
        return self.hidden[torch.cat((mine, others[places]))]

    def _chose(self, expert: int) -> Tensor:
        return (self.ids == expert).any(dim=1)


class LayerInputs(NamedTuple):
    """What the projections of a layer multiply. attention: of queries, keys and values, and of the output. always: of
    gate and up, and of down, of the MLP that all tokens go through, if there is one. routed: of the experts."""

    attention: tuple[Inputs, Inputs]
    always: tuple[Inputs, Inputs] | None
    routed: Routed | None

    @property
    def mlp_sizes(self) -> Tensor:
        """[hidden], the mean magnitudes of what the MLPs are given."""
        if self.always is not None:
            return self.always[0].sizes
        assert self.routed is not None
        return self.routed.hidden.abs().mean(dim=0)

    def share(self, mlp: FeedForward) -> float:
        """Of all tokens, how many go through an MLP."""
        return 1.0 if mlp.expert is None or self.routed is None else self.routed.share(mlp.expert)

    def behind_mlp_norm(self, factors: Tensor) -> "LayerInputs":
        """Those where the MLPs are given what they are divided by factors [hidden]."""
        always = None if self.always is None else (self.always[0].scaled(factors), self.always[1])
        routed = None if self.routed is None else Routed(self.routed.hidden / factors, self.routed.ids)
        return self._replace(always=always, routed=routed)

    def of(self, mlp: FeedForward, tensors: Mapping[str, Tensor], at: str) -> tuple[Inputs, Inputs]:
        """Of gate and up, and of down. tensors: the layer's as they are now; at: how their names begin."""
        if mlp.expert is None:
            assert self.always is not None
            return self.always
        assert self.routed is not None
        gate_up, [down] = (
            [tensors[f"{at}{name}.weight"].float() for name in part.rows] for part in (mlp.gate_up, mlp.down)
        )
        above, below = (input_sum(columns, down.device) for columns in down.shape)
        watched = watched_mlp(MLP(DenseLinear(torch.cat(gate_up)), DenseLinear(down)), above, below)
        for some in self.routed.of(mlp.expert).split(_AT_ONCE):
            watched(some)
        return above.means(), below.means()


def attention_projections(spec: ModelSpec, index: int) -> tuple[Fused, Fused]:
    """Queries, keys and values, and the output, of a layer."""
    qkv, output, *_ = layer_projections(spec, index)
    return qkv, output


def feed_forwards(spec: ModelSpec, index: int) -> list[FeedForward]:
    """Those of a layer; of experts that are stored one by one."""
    has = spec.experts
    if has is None or index not in has.layers:
        *_, both, last = layer_projections(spec, index)
        return [FeedForward(both, last)]
    names, hidden = spec.tensors.experts[0], spec.hidden_size

    def gated(gate_up: tuple[str, ...], down: str, inner: int, expert: int | None = None) -> FeedForward:
        rows = rows_of(gate_up, inner, inner)
        return FeedForward(Fused(hidden, rows, has_bias=False), Fused(inner, {down: hidden}, has_bias=False), expert)

    shared = [gated(names.shared_gate_up, names.shared_down, has.shared_size)] if has.shared_size else []
    *gate_up, down = (name.removesuffix(".weight") for name in (*names.gate_up, names.down))
    return shared + [
        gated(tuple(name.format(expert) for name in gate_up), down.format(expert), has.intermediate_size, expert)
        for expert in has.here
    ]


def beside_experts(spec: ModelSpec) -> list[str]:
    """The tensors of a layer with experts that choose and weigh them, by what the experts multiply; below the layer's
    prefix."""
    if spec.experts is None:
        return []
    names = spec.tensors.experts[0]
    return [names.router, f"{names.shared_gate}.weight"] if spec.experts.gates_shared else [names.router]
