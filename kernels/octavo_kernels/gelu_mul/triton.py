"""gelu_mul in Triton: one program a token and piece of its row."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.dependent_launch import launch_options, wait_for_last

PIECE = 1024  # elements


@triton.jit
def gelu_mul_kernel(
    out, gate_up, intermediate, stride_out, stride_gate_up, PIECE: tl.constexpr, DEPENDENT: tl.constexpr
):
    """out = gelu(gate) * up, computed in float32. Grid: (tokens, ceil(intermediate / PIECE)).

    out: [tokens, intermediate]; gate_up: [tokens, 2 * intermediate], the gates first; both of one float type, strides
    of their rows in elements. PIECE: elements of a row in one program."""
    wait_for_last(DEPENDENT)
    token = tl.program_id(0).to(tl.int64)
    element = tl.program_id(1) * PIECE + tl.arange(0, PIECE)
    mask = element < intermediate
    row = gate_up + token * stride_gate_up
    gate = tl.load(row + element, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(row + intermediate + element, mask=mask, other=0.0).to(tl.float32)
    # (1 + tanh(u)) / 2 is sigmoid(2 * u).
    twice = 1.5957691216057308 * (gate + 0.044715 * gate * gate * gate)  # sqrt(8 / pi)
    activated = gate * tl.sigmoid(twice) * up
    tl.store(out + token * stride_out + element, activated.to(out.dtype.element_ty), mask=mask)


def gelu_mul(gate_up: Tensor, out: Tensor | None = None) -> Tensor:
    """See `octavo_kernels.gelu_mul`."""
    tokens, width = gate_up.shape
    intermediate = width // 2
    if out is None:
        out = torch.empty(tokens, intermediate, dtype=gate_up.dtype, device=gate_up.device)
    if tokens == 0:
        return out
    gelu_mul_kernel[(tokens, triton.cdiv(intermediate, PIECE))](
        out, gate_up, intermediate, out.stride(0), gate_up.stride(0), PIECE=PIECE, **launch_options(gate_up.device)
    )
    return out
