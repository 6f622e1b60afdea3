"""Tensors as a Triton kernel gets them: pointers, and the strides that go with them, in elements."""

from typing import NamedTuple

from torch import Tensor


class Heads(NamedTuple):
    """[tokens, heads, head_dim], the last dimension contiguous."""

    pointer: Tensor
    stride_token: int
    stride_head: int


class LayerCache(NamedTuple):
    """The keys and the values of one layer, each [blocks, block_size, kv_heads, head_dim], with the same strides, the
    last dimension contiguous."""

    k: Tensor
    v: Tensor
    stride_block: int
    stride_slot: int
    stride_head: int


def heads(tensor: Tensor) -> Heads:
    """tensor: [tokens, heads, head_dim]."""
    return Heads(tensor, *tensor.stride()[:2])


def layer_cache(k_cache: Tensor, v_cache: Tensor) -> LayerCache:
    """k_cache, v_cache: [blocks, block_size, kv_heads, head_dim]."""
    return LayerCache(k_cache, v_cache, *k_cache.stride()[:3])
