"""paged_prefill for Hopper, in Gluon: warp-specialised attention in the manner of FlashAttention-3 (Shah et al., 2024),
for heads of 128.

A tile is 128 queries of one head. A program is two warpgroups that compute, with 64 queries each, and a warp that has
the keys and values copied into shared memory, by the tensor memory accelerator, block of the cache by block; they meet
at barriers. Within a warpgroup the scores of one run of 128 keys are multiplied while the values of the run before are
added. As many programs as the GPU has processors take the tiles in turns, the heaviest first.

Keys are stored as two halves of 64 columns: 64 numbers of 16 bits are the 128 bytes that the shared memory's swizzle
spans, so a block of any multiple of 8 rows can land in the middle of a run, and both halves together are what the
matrix units read as one run of 128 columns.

Of a cache of 8 bits bytes are copied, 128 of a row, and another warpgroup widens them to float16, which holds every
such number; their scales are multiplied into the scores' and into what comes out.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import triton
from torch import Tensor
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from octavo_kernels.eight_bits_kernels import PLAIN, kind_of
from octavo_kernels.gpu import capability, gpu
from octavo_kernels.online_softmax import LOG2_E
from octavo_kernels.paged_prefill.hopper_kernel import prefill_kernel

ROWS = 128  # of queries in a tile, and of keys in a run
HEAD_DIM = 128
ELEMENTS = {torch.bfloat16: gl.bfloat16, torch.float16: gl.float16, torch.uint8: gl.uint8}
SWIZZLED_BYTES = 128
STAGES = 2  # runs of keys, and of values, in shared memory
NARROW_STAGES = 1  # of those of 8 bits that are to be widened
# Of a thread, in each warpgroup, and on the average of all 12 warps; of a cache of 8 bits, of all 16.
COMPUTE_REGISTERS, COPY_REGISTERS, REGISTERS = 240, 24, 168
NARROW_COMPUTE_REGISTERS, WIDEN_REGISTERS, NARROW_REGISTERS = 224, 40, 128
# Tiles that are mostly padding are better computed by the form that packs a group's heads into one tile.
LEAST_FILLED = 0.75
# A launch describes three tensors to the accelerator anew, which takes the host longer than a shorter step can hide.
LEAST_QUERIES = 2048


@dataclass(frozen=True)
class HopperPrefillPlan:
    """What a step's layers share. tiles: [tiles, 2] int32, sequence and place among its tiles, the heaviest first."""

    tiles: Tensor


def fits(q_heads: int, k_cache: Tensor) -> bool:
    """Whether this form can be used on the device and with the cache's shape, for queries of 16 bits."""
    _, block_size, kv_heads, head_dim = k_cache.shape
    stored = k_cache.itemsize == 2 or kind_of(k_cache) != PLAIN
    fitting = head_dim == HEAD_DIM and stored and q_heads % kv_heads == 0
    whole = block_size % 8 == 0 and ROWS % block_size == 0 and k_cache.is_contiguous()
    return fitting and whole and (not k_cache.is_cuda or capability(k_cache.device) == (9, 0))


def plan(lengths: npt.NDArray[np.int64], device: torch.device) -> HopperPrefillPlan | None:
    """The tiles of sequences with lengths [batch, 2]: queries and all tokens; None where the other form is the better
    one: for few queries, or tiles that would be padding too much."""
    queries, totals = lengths[:, 0], lengths[:, 1]
    counts = -(-queries // ROWS)
    if queries.sum() < max(LEAST_QUERIES, LEAST_FILLED * ROWS * counts.sum()):
        return None
    sequence = np.repeat(np.arange(len(lengths)), counts)
    place = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
    ends = np.minimum(totals[sequence], (totals - queries)[sequence] + (place + 1) * ROWS)
    order = np.argsort(-ends, kind="stable")
    tiles = torch.from_numpy(np.stack([sequence, place], axis=1)[order].astype(np.int32))
    return HopperPrefillPlan(tiles.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tiles)


def paged_prefill(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    query_start: Tensor,
    scale: float,
    plan_of_step: HopperPrefillPlan,
    out: Tensor | None = None,
    scales: Tensor | None = None,
) -> Tensor:
    """See `octavo_kernels.paged_prefill`. Slots of the sequences' blocks behind their last token must hold finite
    numbers: they are multiplied by 0."""
    _, q_heads, head_dim = q.shape
    block_size, kv_heads = k_cache.shape[1:3]
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device) if out is None else out
    count = len(plan_of_step.tiles)
    programs = min(gpu(q.device).processors, count * q_heads)
    kind = kind_of(k_cache)
    if kind != PLAIN:
        k_cache, v_cache = k_cache.view(torch.uint8), v_cache.view(torch.uint8)

    def rows(tensor: Tensor, count: int, heads: int, at_once: int) -> TensorDescriptor:
        """`count` rows of the heads of a token, read `at_once` rows and 128 bytes at a time."""
        element, columns = ELEMENTS[tensor.dtype], SWIZZLED_BYTES // tensor.itemsize
        layout = gl.NVMMASharedLayout(SWIZZLED_BYTES, element.primitive_bitwidth, rank=2)
        return TensorDescriptor(tensor, [count, heads * head_dim], [tensor.stride(-3), 1], [at_once, columns], layout)

    prefill_kernel[(programs,)](
        rows(q, len(q), q_heads, 64),
        rows(k_cache, len(k_cache) * block_size, kv_heads, block_size),
        rows(v_cache, len(v_cache) * block_size, kv_heads, block_size),
        out,
        out.stride(0),
        block_tables,
        block_tables.stride(0),
        plan_of_step.tiles,
        count,
        triton.cdiv(count * q_heads, programs),
        query_start,
        seq_lens,
        scale * LOG2_E,
        out if scales is None else scales,  # not touched
        HEADS=q_heads,
        GROUP=q_heads // kv_heads,
        BLOCK_SIZE=block_size,
        STAGES=STAGES,
        NARROW_STAGES=NARROW_STAGES,
        KIND=kind,
        COMPUTE_REGISTERS=COMPUTE_REGISTERS if kind == PLAIN else NARROW_COMPUTE_REGISTERS,
        COPY_REGISTERS=COPY_REGISTERS,
        WIDEN_REGISTERS=WIDEN_REGISTERS,
        num_warps=4,
        maxnreg=REGISTERS if kind == PLAIN else NARROW_REGISTERS,
    )
    return out
