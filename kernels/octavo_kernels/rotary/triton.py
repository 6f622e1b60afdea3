"""rotary in Triton: one program a token."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.dependent_launch import launch_options, wait_for_last
from octavo_kernels.strided import heads


@triton.jit
def rotate(row, stride_head, cos, sin, HEADS: tl.constexpr, HALF: tl.constexpr, PADDED_HALF: tl.constexpr):
    """Rotates one token's heads in place. row: points to [HEADS, 2 * HALF], any float; cos, sin: [PADDED_HALF]
    float32, 0 beyond HALF."""
    PADDED_HEADS: tl.constexpr = triton.next_power_of_2(HEADS)
    head = tl.arange(0, PADDED_HEADS)
    dim = tl.arange(0, PADDED_HALF)
    mask = (head < HEADS)[:, None] & (dim < HALF)[None, :]
    first_half = row + head[:, None] * stride_head + dim[None, :]
    second_half = first_half + HALF
    first = tl.load(first_half, mask=mask, other=0.0).to(tl.float32)
    second = tl.load(second_half, mask=mask, other=0.0).to(tl.float32)
    element = row.dtype.element_ty
    tl.store(first_half, (first * cos[None, :] - second * sin[None, :]).to(element), mask=mask)
    tl.store(second_half, (second * cos[None, :] + first * sin[None, :]).to(element), mask=mask)


@triton.jit
def rotary_kernel(
    q,
    k,
    positions,
    cos_sin,
    Q_HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    PADDED_HALF: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Rotates q and k in place, computing in float32. Grid: (tokens,).

    q: `Heads` [tokens, Q_HEADS, 2 * HALF or more], k: `Heads` [tokens, KV_HEADS, as much], of one float type.
    positions: [tokens] int64. cos_sin: [positions, 2 * HALF] float32, cosines, then sines. PADDED_HALF: HALF, up to a
    power of two."""
    wait_for_last(DEPENDENT)
    token = tl.program_id(0).to(tl.int64)
    angles = cos_sin + tl.load(positions + token) * (2 * HALF)
    dim = tl.arange(0, PADDED_HALF)
    cos = tl.load(angles + dim, mask=dim < HALF, other=0.0)
    sin = tl.load(angles + HALF + dim, mask=dim < HALF, other=0.0)
    rotate(q.pointer + token * q.stride_token, q.stride_head, cos, sin, Q_HEADS, HALF, PADDED_HALF)
    rotate(k.pointer + token * k.stride_token, k.stride_head, cos, sin, KV_HEADS, HALF, PADDED_HALF)


def rotary(q: Tensor, k: Tensor, positions: Tensor, cos_sin: Tensor) -> None:
    """See `octavo_kernels.rotary`."""
    tokens, q_heads, _ = q.shape
    half = cos_sin.shape[1] // 2
    if tokens == 0:
        return
    rotary_kernel[(tokens,)](
        heads(q),
        heads(k),
        positions,
        cos_sin,
        Q_HEADS=q_heads,
        KV_HEADS=k.shape[1],
        HALF=half,
        PADDED_HALF=triton.next_power_of_2(half),
        **launch_options(q.device),
    )
