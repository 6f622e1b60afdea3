"""write_kv in Triton: one program a token."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.dependent_launch import launch_options, wait_for_last


@triton.jit
def write_kernel(
    k,
    v,
    k_cache,
    v_cache,
    slots,
    stride_k_token,
    stride_k_head,
    stride_v_token,
    stride_v_head,
    stride_block,
    stride_slot,
    stride_head,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    PADDED: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Copies each token's key and value into its slot. Grid: (tokens,).

    k, v: [tokens, KV_HEADS, HEAD_DIM]; k_cache, v_cache: [blocks, BLOCK_SIZE, KV_HEADS, HEAD_DIM], with the same
    strides; all of one type, strides in elements, the last dimension contiguous. slots: [tokens] int64, block *
    BLOCK_SIZE + offset in the block; below 0 the token is padding. PADDED: KV_HEADS * HEAD_DIM, up to a power of
    two."""
    wait_for_last(DEPENDENT)
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token)
    if slot < 0:
        return
    element = tl.arange(0, PADDED)
    head = element // HEAD_DIM
    dim = element % HEAD_DIM
    mask = element < KV_HEADS * HEAD_DIM
    key = tl.load(k + token * stride_k_token + head * stride_k_head + dim, mask=mask)
    value = tl.load(v + token * stride_v_token + head * stride_v_head + dim, mask=mask)
    target = slot // BLOCK_SIZE * stride_block + slot % BLOCK_SIZE * stride_slot + head * stride_head + dim
    tl.store(k_cache + target, key, mask=mask)
    tl.store(v_cache + target, value, mask=mask)


def write_kv(k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, slots: Tensor) -> None:
    """See `octavo_kernels.write_kv`."""
    tokens, kv_heads, head_dim = k.shape
    if tokens == 0:
        return
    write_kernel[(tokens,)](
        k,
        v,
        k_cache,
        v_cache,
        slots,
        *k.stride()[:2],
        *v.stride()[:2],
        *k_cache.stride()[:3],
        KV_HEADS=kv_heads,
        HEAD_DIM=head_dim,
        BLOCK_SIZE=k_cache.shape[1],
        PADDED=triton.next_power_of_2(kv_heads * head_dim),
        **launch_options(k.device),
    )
