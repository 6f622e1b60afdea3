"""rotary_write_latent in Triton: one program a token."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.dependent_launch import launch_options, wait_for_last
from octavo_kernels.strided import heads


@triton.jit
def rotary_write_kernel(
    q,
    latent,
    stride_latent,
    key,
    stride_key,
    cache,
    stride_block,
    stride_slot,
    positions,
    cos_sin,
    slots,
    HEADS: tl.constexpr,
    PADDED_HEADS: tl.constexpr,
    RANK: tl.constexpr,
    PADDED_RANK: tl.constexpr,
    HALF: tl.constexpr,
    PADDED_HALF: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Rotates the queries of a token in place, and writes its latent and rotated key into its slot. Grid: (tokens,).

    q: `Heads` [tokens, HEADS, 2 * HALF]; latent: [tokens, RANK]; key: [tokens, 2 * HALF]; cache: [blocks, BLOCK_SIZE,
    RANK + 2 * HALF]; all of one float type, the last dimension contiguous. positions: [tokens] int64. cos_sin:
    [positions, 2 * HALF] float32, cosines, then sines. slots: [tokens] int64, block * BLOCK_SIZE + offset in the block;
    below 0 the token is padding. PADDED_HEADS, PADDED_RANK, PADDED_HALF: up to powers of two."""
    wait_for_last(DEPENDENT)
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token)
    angles = cos_sin + tl.load(positions + token) * (2 * HALF)
    dim = tl.arange(0, PADDED_HALF)
    turned = dim < HALF
    cos = tl.load(angles + dim, mask=turned, other=0.0)
    sin = tl.load(angles + HALF + dim, mask=turned, other=0.0)
    element = cache.dtype.element_ty

    head = tl.arange(0, PADDED_HEADS)
    queries = q.pointer + token * q.stride_token + head[:, None] * q.stride_head + dim[None, :]
    there = (head < HEADS)[:, None] & turned[None, :]
    first = tl.load(queries, mask=there, other=0.0).to(tl.float32)
    second = tl.load(queries + HALF, mask=there, other=0.0).to(tl.float32)
    tl.store(queries, (first * cos[None, :] - second * sin[None, :]).to(element), mask=there)
    tl.store(queries + HALF, (second * cos[None, :] + first * sin[None, :]).to(element), mask=there)
    if slot < 0:
        return

    place = cache + slot // BLOCK_SIZE * stride_block + slot % BLOCK_SIZE * stride_slot
    entry = tl.arange(0, PADDED_RANK)
    whole = entry < RANK
    tl.store(place + entry, tl.load(latent + token * stride_latent + entry, mask=whole), mask=whole)
    first = tl.load(key + token * stride_key + dim, mask=turned, other=0.0).to(tl.float32)
    second = tl.load(key + token * stride_key + HALF + dim, mask=turned, other=0.0).to(tl.float32)
    tl.store(place + RANK + dim, (first * cos - second * sin).to(element), mask=turned)
    tl.store(place + RANK + HALF + dim, (second * cos + first * sin).to(element), mask=turned)


def rotary_write_latent(
    q: Tensor, latent: Tensor, key: Tensor, positions: Tensor, cos_sin: Tensor, cache: Tensor, slots: Tensor
) -> None:
    """See `octavo_kernels.rotary_write_latent`."""
    tokens, num_heads, rope = q.shape
    if tokens == 0:
        return
    rank = latent.shape[1]
    rotary_write_kernel[(tokens,)](
        heads(q),
        latent,
        latent.stride(0),
        key,
        key.stride(0),
        cache,
        *cache.stride()[:2],
        positions,
        cos_sin,
        slots,
        HEADS=num_heads,
        PADDED_HEADS=triton.next_power_of_2(num_heads),
        RANK=rank,
        PADDED_RANK=triton.next_power_of_2(rank),
        HALF=rope // 2,
        PADDED_HALF=triton.next_power_of_2(rope // 2),
        BLOCK_SIZE=cache.shape[1],
        num_warps=4,
        **launch_options(q.device),
    )
