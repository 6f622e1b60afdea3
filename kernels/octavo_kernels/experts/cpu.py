"""experts for the CPU: one expert after another, of those that have tokens."""

import torch
from torch import Tensor
from torch.nn.functional import linear

from octavo_kernels.experts import Biases, GroupedExperts, PackedWeights, StackedGroups, Weights
from octavo_kernels.experts.reference import activate, dequantize
from octavo_kernels.gate_mul.cpu import gate_mul
from octavo_kernels.grouped_linear.cpu import grouped_linear
from octavo_kernels.quantized_linear import side_by_side
from octavo_kernels.wide_linear.cpu import wide_linear

# Up to this many rows a 16-bit weight is read once as it is and summed in float32; above, a float32 copy of it is made.
FEW_ROWS = 8
# Rows of a packed weight that are unpacked at once: a whole one would take eight times its memory.
UNPACKED_ROWS = 256


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
    """See `octavo_kernels.experts`. 16-bit types are rounded once, in the end."""
    chosen, num_experts = ids.flatten(), _count(gate_up)
    order = chosen.argsort(stable=True)
    counts = torch.bincount(chosen.clamp(-1, num_experts) + 1, minlength=num_experts + 2).tolist()
    _, *of_experts, _ = order.split(counts)  # the first and the last are of experts elsewhere
    total = torch.zeros(hidden.shape)
    for expert, pairs in enumerate(of_experts):
        if len(pairs):
            tokens = pairs // ids.shape[1]
            inner = _product(hidden[tokens].float(), gate_up, expert, None if biases is None else biases.gate_up)
            inner = gate_mul(inner, "silu") if limit is None else activate(inner, limit)
            found = _product(inner, down, expert, None if biases is None else biases.down)
            total.index_add_(0, tokens, found.mul_(weights.flatten()[pairs, None]))
    return total.to(hidden.dtype) if out is None else out.copy_(total)


def _count(weights: Weights) -> int:
    if isinstance(weights, GroupedExperts):
        return len(weights.parts)
    if isinstance(weights, StackedGroups):
        return weights.num_experts
    return len(weights if isinstance(weights, Tensor) else weights.blocks)


def _product(x: Tensor, weights: Weights, expert: int, biases: Tensor | None) -> Tensor:
    """x @ weight.T and the bias of one expert, in float32."""
    if isinstance(weights, GroupedExperts):
        product = side_by_side(x, weights.parts[expert])
    elif isinstance(weights, StackedGroups):
        product = grouped_linear(x, weights[expert])
    elif isinstance(weights, PackedWeights):
        parts = zip(
            weights.blocks[expert].split(UNPACKED_ROWS), weights.scales[expert].split(UNPACKED_ROWS), strict=True
        )
        product = torch.cat([linear(x, dequantize(PackedWeights(*part))) for part in parts], dim=-1)
    elif weights.dtype != torch.float32 and len(x) <= FEW_ROWS:
        product = wide_linear(x, weights[expert])
    else:
        product = linear(x, weights[expert].float())
    return product if biases is None else product.add_(biases[expert])
