"""rotary_write_kv in Triton: one program a token and head of keys, with the queries that attend to it."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.dependent_launch import launch_options, wait_for_last
from octavo_kernels.eight_bits_kernels import as_bytes, kind_of, narrowed
from octavo_kernels.strided import heads, layer_cache
from octavo_kernels.write_kv.triton import finite


@triton.jit
def rotary_write_kernel(
    q,
    k,
    v,
    cache,
    positions,
    cos_sin,
    slots,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    PADDED_GROUP: tl.constexpr,
    PADDED_HALF: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    DEPENDENT: tl.constexpr,
    scales=None,
    KIND: tl.constexpr = 0,
):
    """Rotates queries in place and writes rotated keys, and values, into their slots. Grid: (tokens, kv_heads).

    q: `Heads` [tokens, GROUP * kv_heads, HEAD_DIM]; k, v: `Heads` [tokens, kv_heads, HEAD_DIM]; cache: `LayerCache`
    [blocks, BLOCK_SIZE, kv_heads, HEAD_DIM]; all of one float type, or the cache of 8 bits: KIND, see
    eight_bits_kernels; scales: [2, kv_heads] float32. positions: [tokens] int64. cos_sin: [positions,
    2 * HALF] float32, cosines, then sines. slots: [tokens] int64, block * BLOCK_SIZE + offset in the block; below 0 the
    token is padding. PADDED_GROUP, PADDED_HALF, PADDED_DIM: GROUP, HALF, HEAD_DIM, up to powers of two."""
    wait_for_last(DEPENDENT)
    token = tl.program_id(0).to(tl.int64)
    kv_head = tl.program_id(1)
    slot = tl.load(slots + token)
    angles = cos_sin + tl.load(positions + token) * (2 * HALF)
    dim = tl.arange(0, PADDED_HALF)
    turned = dim < HALF
    cos = tl.load(angles + dim, mask=turned, other=0.0)
    sin = tl.load(angles + HALF + dim, mask=turned, other=0.0)

    member = tl.arange(0, PADDED_GROUP)
    queries = q.pointer + token * q.stride_token + (kv_head * GROUP + member)[:, None] * q.stride_head + dim[None, :]
    there = (member < GROUP)[:, None] & turned[None, :]
    first = tl.load(queries, mask=there, other=0.0).to(tl.float32)
    second = tl.load(queries + HALF, mask=there, other=0.0).to(tl.float32)
    element = q.pointer.dtype.element_ty
    tl.store(queries, (first * cos[None, :] - second * sin[None, :]).to(element), mask=there)
    tl.store(queries + HALF, (second * cos[None, :] + first * sin[None, :]).to(element), mask=there)
    if slot < 0:
        return

    key = k.pointer + token * k.stride_token + kv_head * k.stride_head
    value = v.pointer + token * v.stride_token + kv_head * v.stride_head
    place = (
        slot // BLOCK_SIZE * cache.stride_block + slot % BLOCK_SIZE * cache.stride_slot + kv_head * cache.stride_head
    )
    first = tl.load(key + dim, mask=turned, other=0.0).to(tl.float32)
    second = tl.load(key + HALF + dim, mask=turned, other=0.0).to(tl.float32)
    front = (first * cos - second * sin).to(element)
    back = (second * cos + first * sin).to(element)
    entry = tl.arange(0, PADDED_DIM)
    left = (entry >= 2 * HALF) & (entry < HEAD_DIM)
    whole = entry < HEAD_DIM
    rest = tl.load(key + entry, mask=left)
    stored_value = tl.load(value + entry, mask=whole)
    if KIND != 0:
        key_scale = tl.load(scales + kv_head)
        front, back = narrowed(front, key_scale, KIND), narrowed(back, key_scale, KIND)
        rest = narrowed(rest, key_scale, KIND)
        stored_value = narrowed(stored_value, tl.load(scales + tl.num_programs(1) + kv_head), KIND)
    else:
        stored_value = finite(stored_value)
    tl.store(cache.k + place + dim, front, mask=turned)
    tl.store(cache.k + place + HALF + dim, back, mask=turned)
    if 2 * HALF < HEAD_DIM:
        tl.store(cache.k + place + entry, rest, mask=left)
    tl.store(cache.v + place + entry, stored_value, mask=whole)


def rotary_write_kv(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    positions: Tensor,
    cos_sin: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    slots: Tensor,
    scales: Tensor | None = None,
) -> None:
    """See `octavo_kernels.rotary_write_kv`."""
    tokens, kv_heads, head_dim = k.shape
    group, half = q.shape[1] // kv_heads, cos_sin.shape[1] // 2
    if tokens == 0:
        return
    rotary_write_kernel[(tokens, kv_heads)](
        heads(q),
        heads(k),
        heads(v),
        layer_cache(as_bytes(k_cache), as_bytes(v_cache)),
        positions,
        cos_sin,
        slots,
        GROUP=group,
        HEAD_DIM=head_dim,
        HALF=half,
        BLOCK_SIZE=k_cache.shape[1],
        PADDED_GROUP=triton.next_power_of_2(group),
        PADDED_HALF=triton.next_power_of_2(half),
        PADDED_DIM=triton.next_power_of_2(head_dim),
        num_warps=1,
        **launch_options(q.device),
        scales=scales,
        KIND=kind_of(k_cache),
    )
