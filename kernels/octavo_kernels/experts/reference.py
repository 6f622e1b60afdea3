"""The oracle of experts, in float32."""

import torch
from torch import Tensor

from octavo_kernels.experts import Biases, GroupedExperts, StackedGroups, Weights
from octavo_kernels.grouped_linear import reference as grouped_linear
from octavo_kernels.quantized_linear.reference import unpack

# Of each half of a byte.
NUMBERS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)


def experts(
    hidden: Tensor,
    gate_up: Weights,
    down: Weights,
    ids: Tensor,
    weights: Tensor,
    out: Tensor | None = None,
    biases: Biases | None = None,
    limit: float | None = None,
) -> Tensor:
    """See `octavo_kernels.experts`."""
    gate_up, down = dequantize(gate_up), dequantize(down)
    total = torch.zeros(hidden.shape, device=hidden.device)
    for expert in range(len(gate_up)):
        tokens, places = torch.where(ids == expert)
        inner = hidden[tokens].float() @ gate_up[expert].T
        if biases is not None:
            inner += biases.gate_up[expert].float()
        found = activate(inner, limit) @ down[expert].T
        if biases is not None:
            found += biases.down[expert].float()
        total.index_add_(0, tokens, found * weights[tokens, places, None])
    return total.to(hidden.dtype) if out is None else out.copy_(total)


def activate(gate_up: Tensor, limit: float | None) -> Tensor:
    """What comes between the projections, [rows, inner] of [rows, 2 * inner]."""
    gate, up = gate_up.chunk(2, dim=-1)
    if limit is None:
        return gate * torch.sigmoid(gate) * up
    gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
    return gate * torch.sigmoid(1.702 * gate) * (up + 1)


def dequantize(weight: Weights) -> Tensor:
    """[..., out, in] float32."""
    if isinstance(weight, Tensor):
        return weight.float()
    if isinstance(weight, StackedGroups):
        rows: Tensor = grouped_linear.dequantize(weight.weight)
        return rows.view(weight.num_experts, -1, rows.shape[1])
    if isinstance(weight, GroupedExperts):
        return torch.stack([torch.cat([unpack(part) for part in parts]) for parts in weight.parts])
    numbers = torch.tensor(NUMBERS, device=weight.blocks.device)
    halves = torch.stack((weight.blocks & 15, weight.blocks >> 4), dim=-1).flatten(-2)
    grouped: Tensor = numbers[halves.long()].unflatten(-1, (-1, 32))
    return (grouped * torch.exp2(weight.scales.float() - 127).unsqueeze(-1)).flatten(-2)
