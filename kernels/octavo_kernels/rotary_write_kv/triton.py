"""rotary_write_kv in Triton: one program a token and some heads of keys, with the queries that attend to them."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.dependent_launch import launch_options, wait_for_last
from octavo_kernels.eight_bits_kernels import as_bytes, kind_of, narrowed
from octavo_kernels.strided import heads, layer_cache
from octavo_kernels.write_kv.triton import finite

FEW = 64  # tokens: a program for each head, so that there are many
MOST_HEADS = 8  # of a program, of keys
HEADS_A_WARP = 2


@triton.jit
def rotary_write_kernel(
    q,
    k,
    v,
    cache,
    positions,
    cos_sin,
    slots,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    HEADS: tl.constexpr,
    PADDED_QUERIES: tl.constexpr,
    PADDED_HALF: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    DEPENDENT: tl.constexpr,
    scales=None,
    KIND: tl.constexpr = 0,
):
    """Rotates queries in place and writes rotated keys, and values, into their slots. Grid: (tokens,
    ceil(KV_HEADS / HEADS)).

    q: `Heads` [tokens, GROUP * KV_HEADS, HEAD_DIM]; k, v: `Heads` [tokens, KV_HEADS, HEAD_DIM]; cache: `LayerCache`
    [blocks, BLOCK_SIZE, KV_HEADS, HEAD_DIM]; all of one float type, or the cache of 8 bits: KIND, see
    eight_bits_kernels; scales: [2, KV_HEADS] float32. positions: [tokens] int64. cos_sin: [positions,
    2 * HALF] float32, cosines, then sines. slots: [tokens] int64, block * BLOCK_SIZE + offset in the block; below 0 the
    token is padding. HEADS: of keys in a program, a power of two; PADDED_QUERIES, PADDED_HALF, PADDED_DIM: HEADS *
    GROUP, HALF, HEAD_DIM, up to powers of two."""
    wait_for_last(DEPENDENT)
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token)
    angles = cos_sin + tl.load(positions + token) * (2 * HALF)
    dim = tl.arange(0, PADDED_HALF)
    turned = (dim < HALF)[None, :]
    cos = tl.load(angles + dim, mask=dim < HALF, other=0.0)[None, :]
    sin = tl.load(angles + HALF + dim, mask=dim < HALF, other=0.0)[None, :]

    head = tl.program_id(1) * HEADS * GROUP + tl.arange(0, PADDED_QUERIES)
    queries = q.pointer + token * q.stride_token + head[:, None] * q.stride_head + dim[None, :]
    member = tl.arange(0, PADDED_QUERIES)
    there = ((member < HEADS * GROUP) & (head < KV_HEADS * GROUP))[:, None] & turned
    first = tl.load(queries, mask=there, other=0.0).to(tl.float32)
    second = tl.load(queries + HALF, mask=there, other=0.0).to(tl.float32)
    element = q.pointer.dtype.element_ty
    tl.store(queries, (first * cos - second * sin).to(element), mask=there)
    tl.store(queries + HALF, (second * cos + first * sin).to(element), mask=there)
    if slot < 0:
        return

    kv_head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    entry = tl.arange(0, PADDED_DIM)
    is_head = (kv_head < KV_HEADS)[:, None]
    there = is_head & turned
    left = is_head & ((entry >= 2 * HALF) & (entry < HEAD_DIM))[None, :]
    whole = is_head & (entry < HEAD_DIM)[None, :]
    key = k.pointer + token * k.stride_token + kv_head[:, None] * k.stride_head
    value = v.pointer + token * v.stride_token + kv_head[:, None] * v.stride_head + entry[None, :]
    place = slot // BLOCK_SIZE * cache.stride_block + slot % BLOCK_SIZE * cache.stride_slot
    place += kv_head[:, None] * cache.stride_head
    first = tl.load(key + dim[None, :], mask=there, other=0.0).to(tl.float32)
    second = tl.load(key + HALF + dim[None, :], mask=there, other=0.0).to(tl.float32)
    front = (first * cos - second * sin).to(element)
    back = (second * cos + first * sin).to(element)
    rest = tl.load(key + entry[None, :], mask=left)
    stored_value = tl.load(value, mask=whole)
    if KIND != 0:
        key_scale = tl.load(scales + kv_head, mask=kv_head < KV_HEADS, other=1.0)[:, None]
        value_scale = tl.load(scales + KV_HEADS + kv_head, mask=kv_head < KV_HEADS, other=1.0)[:, None]
        front, back = narrowed(front, key_scale, KIND), narrowed(back, key_scale, KIND)
        rest = narrowed(rest, key_scale, KIND)
        stored_value = narrowed(stored_value, value_scale, KIND)
    else:
        stored_value = finite(stored_value)
    tl.store(cache.k + place + dim[None, :], front, mask=there)
    tl.store(cache.k + place + HALF + dim[None, :], back, mask=there)
    if 2 * HALF < HEAD_DIM:
        tl.store(cache.k + place + entry[None, :], rest, mask=left)
    tl.store(cache.v + place + entry[None, :], stored_value, mask=whole)


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
    together = 1 if tokens <= FEW else min(MOST_HEADS, triton.next_power_of_2(kv_heads))
    rotary_write_kernel[(tokens, triton.cdiv(kv_heads, together))](
        heads(q),
        heads(k),
        heads(v),
        layer_cache(as_bytes(k_cache), as_bytes(v_cache)),
        positions,
        cos_sin,
        slots,
        KV_HEADS=kv_heads,
        GROUP=group,
        HEAD_DIM=head_dim,
        HALF=half,
        BLOCK_SIZE=k_cache.shape[1],
        HEADS=together,
        PADDED_QUERIES=triton.next_power_of_2(together * group),
        PADDED_HALF=triton.next_power_of_2(half),
        PADDED_DIM=triton.next_power_of_2(head_dim),
        num_warps=max(1, together // HEADS_A_WARP),
        **launch_options(q.device),
        scales=scales,
        KIND=kind_of(k_cache),
    )
