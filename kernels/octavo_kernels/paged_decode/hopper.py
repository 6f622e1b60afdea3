"""paged_decode for Hopper, in Triton: stream-K over tiles of keys (Osama et al., 2023), one launch for every mix of
lengths.

The query heads of a KV head are fewer than the rows that the matrix units take at least. So sequences that follow each
other form packs, as many as fill those rows; what the block tables of a pack's members have in common at the front, a
prefix that all of them found in the cache, is read once for all (Juravsky et al., 2024, Hydragen).

The work is the list of all (pack, KV head, tile of positions) units: the tiles in common, then each member's own. A
fixed number of programs, the workers, each take an equal, contiguous run of it, so the load is even whatever the
lengths. `common_kernel` compares the tables and `plan_kernel` works out where each worker begins, once a step for all
layers; nothing on the host depends on lengths.

A worker that covers all tiles of a sequence and KV head stores its output. Otherwise it leaves a partial result:
weighted values, maximum and sum. The parts are added up by the last worker to arrive, counted with an atomic (many
sequences: few are cut), or by `combine_kernel` (few sequences: many parts of each).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from octavo_kernels.eight_bits_kernels import PLAIN, as_pairs, kind_of
from octavo_kernels.gpu import capability, gpu
from octavo_kernels.online_softmax import LOG2_E
from octavo_kernels.paged_decode.hopper_attend import ROWS
from octavo_kernels.paged_decode.hopper_kernels import combine_kernel, decode_kernel
from octavo_kernels.paged_decode.hopper_plan_kernels import HEADER, RECORD, TABLE_PIECE, common_kernel, plan_kernel
from octavo_kernels.strided import heads, layer_cache

PART_ROWS = 16  # rows of parts that a warp adds up at once: 64 registers a thread


class Configuration(NamedTuple):
    """How the work is cut. Tuned for 32 query and 8 KV heads of 128, blocks of 16, on an H200."""

    tile: int  # positions
    warps: int
    stages: int
    workers_per_processor: int
    fused: bool  # whether workers add up the parts themselves


# By the most sequences that each is for, and last for more; of caches of 16 bits, and of 8.
WIDE = (
    (1, Configuration(tile=128, warps=4, stages=3, workers_per_processor=1, fused=False)),
    (8, Configuration(tile=64, warps=4, stages=4, workers_per_processor=2, fused=False)),
    (math.inf, Configuration(tile=32, warps=1, stages=2, workers_per_processor=8, fused=True)),
)
NARROW = (
    (8, Configuration(tile=128, warps=4, stages=3, workers_per_processor=2, fused=False)),
    (math.inf, Configuration(tile=32, warps=1, stages=2, workers_per_processor=8, fused=True)),
)
LEAST_DIM = 32  # of a head of 8 bits: the matrix units take 16 even columns, and as many odd ones


@dataclass(frozen=True)
class HopperPlan:
    """What a step's layers share: what packs have in common, the workers' records, and room for their parts."""

    configuration: Configuration
    workers: int
    pack: int  # sequences, at most
    common: Tensor  # [packs] int32: tiles; means nothing where packs are of one
    records: Tensor
    partial_out: Tensor
    partial_stats: Tensor
    arrived: Tensor  # [batch * kv_heads] int32, all 0 between two layers


def fits(q_heads: int, k_cache: Tensor) -> bool:
    """Whether this form is the one for the device and the shapes: the queries of a KV head fill no more than a tile of
    rows, and tiles of its keys fit into shared memory. Queries must have 16 bits."""
    _, _, kv_heads, head_dim = k_cache.shape
    fitting = q_heads // kv_heads <= ROWS.value and head_dim <= 128
    narrow = kind_of(k_cache) != PLAIN and head_dim >= LEAST_DIM and head_dim % 2 == 0
    fitting &= k_cache.itemsize == 2 or narrow
    return fitting and (not k_cache.is_cuda or capability(k_cache.device) == (9, 0))


def plan(block_tables: Tensor, seq_lens: Tensor, k_cache: Tensor, q_heads: int, dependent: bool = True) -> HopperPlan:
    """See `octavo_kernels.paged_decode.plan_decode`; dependent: see `paged_decode`."""
    batch, (_, block_size, kv_heads, head_dim) = len(seq_lens), k_cache.shape
    group, device = q_heads // kv_heads, seq_lens.device
    configurations = WIDE if kind_of(k_cache) == PLAIN else NARROW
    configuration = next(found for most, found in configurations if batch <= most)
    workers = gpu(device).processors * configuration.workers_per_processor
    pack = 1 if batch == 1 else ROWS.value // group
    packs = triton.cdiv(batch, pack)
    made = HopperPlan(
        configuration,
        workers,
        pack,
        torch.empty(packs, dtype=torch.int32, device=device),
        torch.empty(HEADER.value + RECORD.value * workers + packs, dtype=torch.int32, device=device),
        torch.empty(2 * workers, pack * group, head_dim, dtype=torch.float32, device=device),
        torch.empty(2 * workers, 2, pack * group, dtype=torch.float32, device=device),
        torch.zeros(batch * kv_heads, dtype=torch.int32, device=device),
    )
    packed = {"PACK": pack, "MEMBERS": triton.next_power_of_2(pack), "TILE": configuration.tile}
    launch = {"DEPENDENT": dependent} | ({"launch_pdl": True} if dependent else {})
    if pack > 1:
        common_kernel[(packs,)](
            made.common,
            block_tables,
            block_tables.stride(0),
            seq_lens,
            batch,
            BLOCK_SIZE=block_size,
            PIECE=TABLE_PIECE,
            num_warps=4,
            **packed,
            **launch,
        )
    plan_kernel[(workers,)](
        seq_lens,
        made.common,
        made.records,
        batch,
        workers,
        KV_HEADS=kv_heads,
        PACKS=triton.next_power_of_2(packs),
        num_warps=1,
        **packed,
        **launch,
    )
    return made


def paged_decode(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    scale: float,
    out: Tensor | None = None,
    plan_of_step: HopperPlan | None = None,
    scales: Tensor | None = None,
    dependent: bool = True,
) -> Tensor:
    """See `octavo_kernels.paged_decode`. dependent: launched with programmatic dependent launch, which Triton's
    interpreter does not know."""
    batch, q_heads, head_dim = q.shape
    block_size, kv_heads = k_cache.shape[1:3]
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device) if out is None else out
    made = plan(block_tables, seq_lens, k_cache, q_heads, dependent) if plan_of_step is None else plan_of_step
    tile, warps, stages, _, fused = made.configuration
    group, padded_dim, kind = q_heads // kv_heads, triton.next_power_of_2(head_dim), kind_of(k_cache)
    words = layer_cache(k_cache, v_cache) if kind == PLAIN else layer_cache(as_pairs(k_cache), as_pairs(v_cache))
    group_rows = max(4, triton.next_power_of_2(group))
    shape = {"GROUP": group, "HEAD_DIM": head_dim, "PADDED_DIM": padded_dim}
    shape |= {"PACK": made.pack, "TILE": tile}
    launch = {"DEPENDENT": dependent} | ({"launch_pdl": True} if dependent else {})
    decode_kernel[(made.workers,)](
        heads(out),
        heads(q),
        words,
        block_tables,
        block_tables.stride(0),
        seq_lens,
        made.common,
        made.records,
        made.partial_out,
        made.partial_stats,
        made.arrived,
        batch,
        scale * LOG2_E,
        scales,
        KV_HEADS=kv_heads,
        BLOCK_SIZE=block_size,
        STAGES=stages,
        FUSED=fused,
        GROUP_ROWS=group_rows,
        AT_ONCE=max(1, PART_ROWS * warps // group_rows),
        KIND=kind,
        num_warps=warps,
        **shape,
        **launch,
    )
    if not fused:
        combine_kernel[(q_heads, batch)](
            heads(out),
            seq_lens,
            made.common,
            made.records,
            made.partial_out,
            made.partial_stats,
            batch,
            made.workers,
            MEMBERS=triton.next_power_of_2(made.pack),
            AT_ONCE=32,
            num_warps=4,
            **shape,
            **launch,
        )
    return out
