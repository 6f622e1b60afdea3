"""rms_norm in Triton: one program a token."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.dependent_launch import launch_options, wait_for_last


@triton.jit
def normalise(x, weight, eps, HIDDEN: tl.constexpr, OFFSET: tl.constexpr):
    """x [n] float32, 0 beyond HIDDEN; rounded to the weight's dtype before it is multiplied by it, or with an OFFSET of
    the weight behind it."""
    mean_square = tl.sum(x * x, 0) / HIDDEN
    return scale(x * tl.rsqrt(mean_square + eps), weight, OFFSET)


@triton.jit
def scale(normalised, weight, OFFSET: tl.constexpr):
    """normalised [n] float32 times the weight, in the weight's dtype; see normalise."""
    if OFFSET != 0:
        scaled = (normalised * (OFFSET + weight.to(tl.float32))).to(weight.dtype)
    else:
        scaled = normalised.to(weight.dtype) * weight
    return scaled


@triton.jit
def rms_norm_kernel(
    out,
    x,
    weight,
    eps,
    stride_out,
    stride_x,
    HIDDEN: tl.constexpr,
    PADDED: tl.constexpr,
    OFFSET: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """out = x / sqrt(mean(x ** 2) + eps) * (OFFSET + weight), computed in float32. Grid: (tokens,).

    out, x: [tokens, HIDDEN], strides of their rows in elements. weight: [HIDDEN], which like out has the model's type.
    PADDED: HIDDEN, up to a power of two."""
    token = tl.program_id(0).to(tl.int64)
    element = tl.arange(0, PADDED)
    mask = element < HIDDEN
    scale = tl.load(weight + element, mask=mask, other=0.0)
    wait_for_last(DEPENDENT)
    row = tl.load(x + token * stride_x + element, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + token * stride_out + element, normalise(row, scale, eps, HIDDEN, OFFSET), mask=mask)


def warps(padded: int) -> int:
    """Warps for a row of `padded` elements: up to 16 elements a thread, until a program has 16 warps."""
    return min(16, max(1, padded // 512))


def rms_norm(x: Tensor, weight: Tensor, eps: float, out: Tensor | None = None, offset: float = 0.0) -> Tensor:
    """See `octavo_kernels.rms_norm`."""
    if x.dim() == 3:
        rows = None if out is None else out.view(-1, x.shape[2])
        return rms_norm(x.flatten(0, 1), weight, eps, rows, offset).view(x.shape)
    tokens, hidden = x.shape
    out = torch.empty(x.shape, dtype=weight.dtype, device=x.device) if out is None else out
    if tokens == 0:
        return out
    padded = triton.next_power_of_2(hidden)
    rms_norm_kernel[(tokens,)](
        out,
        x,
        weight,
        eps,
        out.stride(0),
        x.stride(0),
        HIDDEN=hidden,
        PADDED=padded,
        OFFSET=offset,
        num_warps=warps(padded),
        **launch_options(x.device),
    )
    return out
