"""gate_mul in Triton: one program a token and piece of its row."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.dependent_launch import launch_options, wait_for_last
from octavo_kernels.gate_mul import GatedActivation

PIECE = 1024  # elements


@triton.jit
def gated(gate, up, ACTIVATION: tl.constexpr):
    """ACTIVATION(gate) * up, both float32 of one shape."""
    if ACTIVATION == "gelu":
        tail = normal_tail(gate)
        share = tl.where(gate < 0, tail, 1 - tail)
    elif ACTIVATION == "gelu_tanh":
        # (1 + tanh(u)) / 2 is sigmoid(2 * u).
        share = tl.sigmoid(1.5957691216057308 * (gate + 0.044715 * gate * gate * gate))  # sqrt(8 / pi)
    else:
        share = tl.sigmoid(gate)
    return gate * share * up


@triton.jit
def normal_tail(x):
    """The share of a standard normal distribution beyond abs(x), by a fit of erfc (Press et al., Numerical Recipes,
    6.2) that loses no digits where erf is near 1."""
    z = tl.abs(x) * 0.7071067811865476  # sqrt(1 / 2)
    t = 1 / (1 + 0.5 * z)
    series = -0.82215223 + t * 0.17087277
    series = -1.13520398 + t * (1.48851587 + t * series)
    series = -0.18628806 + t * (0.27886807 + t * series)
    series = 0.37409196 + t * (0.09678418 + t * series)
    series = -1.26551223 + t * (1.00002368 + t * series)
    return 0.5 * t * tl.exp(series - z * z)


@triton.jit
def gate_mul_kernel(
    out,
    gate_up,
    intermediate,
    stride_out,
    stride_gate_up,
    ACTIVATION: tl.constexpr,
    PIECE: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """out = ACTIVATION(gate) * up, computed in float32. Grid: (tokens, ceil(intermediate / PIECE)).

    out: [tokens, intermediate]; gate_up: [tokens, 2 * intermediate], the gates first; both of one float type, strides
    of their rows in elements. PIECE: elements of a row in one program."""
    wait_for_last(DEPENDENT)
    token = tl.program_id(0).to(tl.int64)
    element = tl.program_id(1) * PIECE + tl.arange(0, PIECE)
    mask = element < intermediate
    row = gate_up + token * stride_gate_up
    gate = tl.load(row + element, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(row + intermediate + element, mask=mask, other=0.0).to(tl.float32)
    result = gated(gate, up, ACTIVATION)
    tl.store(out + token * stride_out + element, result.to(out.dtype.element_ty), mask=mask)


def gate_mul(gate_up: Tensor, activation: GatedActivation, out: Tensor | None = None) -> Tensor:
    """See `octavo_kernels.gate_mul`."""
    tokens, width = gate_up.shape
    intermediate = width // 2
    if out is None:
        out = torch.empty(tokens, intermediate, dtype=gate_up.dtype, device=gate_up.device)
    if tokens == 0:
        return out
    gate_mul_kernel[(tokens, triton.cdiv(intermediate, PIECE))](
        out,
        gate_up,
        intermediate,
        out.stride(0),
        gate_up.stride(0),
        ACTIVATION=activation,
        PIECE=PIECE,
        **launch_options(gate_up.device),
    )
    return out
