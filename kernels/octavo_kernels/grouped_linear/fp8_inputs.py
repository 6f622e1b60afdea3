"""grouped_linear with both operands in FP8 (e4m3), by cuBLAS: each row of x is rounded with a scale of its own."""

import torch
from torch import Tensor

from octavo_kernels.eight_bits_kernels import FP8
from octavo_kernels.gate_mul import GatedActivation
from octavo_kernels.grouped_linear import GroupedWeights
from octavo_kernels.rounded_rows import gate_round, round_rows


def grouped_linear(
    x: Tensor,
    weight: GroupedWeights,
    bias: Tensor | None = None,
    out: Tensor | None = None,
    gate: GatedActivation | None = None,
) -> Tensor:
    """See `octavo_kernels.grouped_linear.rounded_linear`."""
    stored, scales = round_rows(x, FP8) if gate is None else gate_round(x, gate, FP8)
    product: Tensor = torch._scaled_mm(
        stored,
        weight.values.t(),
        scale_a=scales,
        scale_b=weight.scales.t(),
        bias=bias,
        out_dtype=x.dtype,
        use_fast_accum=True,
    )
    return product if out is None else out.copy_(product)
