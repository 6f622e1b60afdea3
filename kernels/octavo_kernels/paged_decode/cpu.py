"""paged_decode for the CPU: a sequence's blocks are read where they lie, once for the keys, once for the values."""

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from octavo_kernels.native import TYPES, loop, workers

# Below this many tokens in all, starting the other threads takes longer than they save.
_FEW_TOKENS = 64


class Attention(ctypes.Structure):
    """cpu.hpp's structure of the same name."""

    _fields_ = (
        ("tables", ctypes.c_void_p),
        ("lengths", ctypes.c_void_p),
        ("scores", ctypes.c_void_p),
        ("attended", ctypes.c_void_p),
        ("sequences", ctypes.c_int64),
        ("table_stride", ctypes.c_int64),
        ("longest", ctypes.c_int64),
        ("block_size", ctypes.c_int64),
        ("q_heads", ctypes.c_int64),
        ("kv_heads", ctypes.c_int64),
        ("head_dim", ctypes.c_int64),
        ("parts", ctypes.c_int64),
        ("workers", ctypes.c_int64),
    )


@dataclass(frozen=True)
class DecodePlan:
    """What all layers of a step share; `attention` holds the addresses of the tensors."""

    tables: Tensor  # [sequences, blocks] int32
    lengths: Tensor  # [sequences] int32
    scores: Tensor  # [sequences, q_heads, longest] float32
    attended: Tensor  # [sequences, q_heads, head_dim] float32
    attention: Attention


def plan(block_tables: Tensor, seq_lens: Tensor, k_cache: Tensor, q_heads: int) -> DecodePlan:
    """See `octavo_kernels.paged_decode`."""
    _, block_size, kv_heads, head_dim = k_cache.shape
    sequences, threads = len(seq_lens), workers()
    longest = -(-int(seq_lens.max()) // block_size) * block_size
    scores, attended = torch.empty(sequences, q_heads, longest), torch.empty(sequences, q_heads, head_dim)
    attention = Attention(
        block_tables.data_ptr(), seq_lens.data_ptr(), scores.data_ptr(), attended.data_ptr(), sequences,
        block_tables.stride(0), longest, block_size, q_heads, kv_heads, head_dim,
        1 if sequences >= threads else kv_heads, threads if int(seq_lens.sum()) > _FEW_TOKENS else 1,
    )  # fmt: skip
    return DecodePlan(block_tables, seq_lens, scores, attended, attention)


_paged_decode = loop("paged_decode", "ippppid")


def paged_decode(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    scale: float,
    out: Tensor | None = None,
    window: int | None = None,
    softcap: float | None = None,
    shared: DecodePlan | None = None,
) -> Tensor:
    """See `octavo_kernels.paged_decode`. The blocks of a cache must lie one behind another."""
    shared = plan(block_tables, seq_lens, k_cache, q.shape[1]) if shared is None else shared
    scaled = (q.float() * scale).contiguous()
    _paged_decode(
        TYPES[k_cache.dtype], scaled.data_ptr(), k_cache.data_ptr(), v_cache.data_ptr(), ctypes.byref(shared.attention),
        window or 0, softcap or 0.0,
    )  # fmt: skip
    return shared.attended.to(q.dtype) if out is None else out.copy_(shared.attended)
