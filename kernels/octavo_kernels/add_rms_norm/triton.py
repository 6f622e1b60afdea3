"""add_rms_norm in Triton: one program a token."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.dependent_launch import launch_options, wait_for_last
from octavo_kernels.rms_norm.triton import normalise, warps


@triton.jit
def add_rms_norm_kernel(
    normed,
    total,
    x,
    residual,
    weight,
    eps,
    multiplier,
    stride_x,
    stride_residual,
    HIDDEN: tl.constexpr,
    PADDED: tl.constexpr,
    OFFSET: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """total = x * multiplier + residual; normed = total / sqrt(mean(total ** 2) + eps) * (OFFSET + weight), in float32
    from the rounded total. Grid: (tokens,).

    normed, total: [tokens, HIDDEN], contiguous; x, residual: [tokens, HIDDEN], strides of their rows in elements;
    weight: [HIDDEN]; all of one float type. PADDED: HIDDEN, up to a power of two."""
    token = tl.program_id(0).to(tl.int64)
    element = tl.arange(0, PADDED)
    mask = element < HIDDEN
    scale = tl.load(weight + element, mask=mask, other=0.0)
    wait_for_last(DEPENDENT)
    added = tl.load(x + token * stride_x + element, mask=mask, other=0.0).to(tl.float32) * multiplier
    added += tl.load(residual + token * stride_residual + element, mask=mask, other=0.0).to(tl.float32)
    rounded = added.to(total.dtype.element_ty)
    tl.store(total + token * HIDDEN + element, rounded, mask=mask)
    tl.store(
        normed + token * HIDDEN + element, normalise(rounded.to(tl.float32), scale, eps, HIDDEN, OFFSET), mask=mask
    )


def add_rms_norm(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    eps: float,
    total: Tensor | None = None,
    multiplier: float = 1.0,
    offset: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """See `octavo_kernels.add_rms_norm`."""
    tokens, hidden = x.shape
    normed = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    total = torch.empty_like(normed) if total is None else total
    if tokens == 0:
        return normed, total
    padded = triton.next_power_of_2(hidden)
    add_rms_norm_kernel[(tokens,)](
        normed,
        total,
        x,
        residual,
        weight,
        eps,
        multiplier,
        x.stride(0),
        residual.stride(0),
        HIDDEN=hidden,
        PADDED=padded,
        OFFSET=offset,
        num_warps=warps(padded),
        **launch_options(x.device),
    )
    return normed, total
