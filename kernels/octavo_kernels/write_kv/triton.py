"""write_kv in Triton: one program a token."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.dependent_launch import launch_options, wait_for_last
from octavo_kernels.eight_bits_kernels import as_bytes, kind_of, narrowed
from octavo_kernels.strided import heads, layer_cache


@triton.jit
def finite(values):
    """Values as a cache holds them: infinity is the largest number, and NaN 0. Sequences may be multiplied together by
    weights of which some are 0, and what one of them has made of its values must not reach another."""
    wide = values.to(tl.float32)
    largest = 65504.0 if values.dtype == tl.float16 else 3.3895313892515355e38  # of bfloat16
    return tl.minimum(tl.maximum(tl.where(wide == wide, wide, 0.0), -largest), largest).to(values.dtype)


@triton.jit
def write_kernel(
    k,
    v,
    cache,
    slots,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    PADDED: tl.constexpr,
    DEPENDENT: tl.constexpr,
    scales=None,
    KIND: tl.constexpr = 0,
):
    """Copies each token's key and value into its slot. Grid: (tokens,).

    k, v: `Heads` [tokens, KV_HEADS, HEAD_DIM]; cache: `LayerCache` [blocks, BLOCK_SIZE, KV_HEADS, HEAD_DIM]; all of
    one type, or the cache of 8 bits: KIND, see eight_bits_kernels; scales: [2, KV_HEADS] float32. slots:
    [tokens] int64, block * BLOCK_SIZE + offset in the block; below 0 the token is padding. PADDED: KV_HEADS * HEAD_DIM,
    up to a power of two."""
    wait_for_last(DEPENDENT)
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token)
    if slot < 0:
        return
    element = tl.arange(0, PADDED)
    head = element // HEAD_DIM
    dim = element % HEAD_DIM
    mask = element < KV_HEADS * HEAD_DIM
    key = tl.load(k.pointer + token * k.stride_token + head * k.stride_head + dim, mask=mask)
    value = tl.load(v.pointer + token * v.stride_token + head * v.stride_head + dim, mask=mask)
    slot_start = slot // BLOCK_SIZE * cache.stride_block + slot % BLOCK_SIZE * cache.stride_slot
    target = slot_start + head * cache.stride_head + dim
    if KIND != 0:
        key = narrowed(key, tl.load(scales + head, mask=mask, other=1.0), KIND)
        value = narrowed(value, tl.load(scales + KV_HEADS + head, mask=mask, other=1.0), KIND)
    else:
        value = finite(value)
    tl.store(cache.k + target, key, mask=mask)
    tl.store(cache.v + target, value, mask=mask)


def write_kv(
    k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, slots: Tensor, scales: Tensor | None = None
) -> None:
    """See `octavo_kernels.write_kv`."""
    tokens, kv_heads, head_dim = k.shape
    if tokens == 0:
        return
    write_kernel[(tokens,)](
        heads(k),
        heads(v),
        layer_cache(as_bytes(k_cache), as_bytes(v_cache)),
        slots,
        KV_HEADS=kv_heads,
        HEAD_DIM=head_dim,
        BLOCK_SIZE=k_cache.shape[1],
        PADDED=triton.next_power_of_2(kv_heads * head_dim),
        **launch_options(k.device),
        scales=scales,
        KIND=kind_of(k_cache),
    )
