"""paged_decode for the CPU: a sequence's blocks are read where they lie, once for the keys, once for the values."""

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from octavo_kernels.compiled import as_array, compiled, exponential, widened, workers

# Below this many tokens in all, starting the other threads takes longer than they save.
_FEW_TOKENS = 256

_Array = npt.NDArray[Any]


@dataclass(frozen=True)
class DecodePlan:
    """The arrays that all layers share, and where they put what they need for a while."""

    tables: _Array  # [sequences, blocks] int32
    lengths: _Array  # [sequences] int32
    scores: _Array  # [sequences, q_heads, longest] float32
    attended: Tensor  # [sequences, q_heads, head_dim] float32
    parts: int  # into how many parts of its KV heads the work on a sequence is cut
    workers: int


def plan(block_tables: Tensor, seq_lens: Tensor, k_cache: Tensor, q_heads: int) -> DecodePlan:
    """See `octavo_kernels.paged_decode`."""
    _, block_size, kv_heads, head_dim = k_cache.shape
    lengths = as_array(seq_lens)
    threads = workers()
    return DecodePlan(
        as_array(block_tables),
        lengths,
        np.empty((len(lengths), q_heads, -(-int(lengths.max()) // block_size) * block_size), np.float32),
        torch.empty(len(lengths), q_heads, head_dim),
        1 if len(lengths) >= threads else kv_heads,
        threads if lengths.sum() > _FEW_TOKENS else 1,
    )


def paged_decode(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    scale: float,
    out: Tensor | None = None,
    shared: DecodePlan | None = None,
) -> Tensor:
    """See `octavo_kernels.paged_decode`."""
    shared = plan(block_tables, seq_lens, k_cache, q.shape[1]) if shared is None else shared
    arrays = (
        (q.float() * scale).numpy(),
        as_array(k_cache),
        as_array(v_cache),
        shared.tables,
        shared.lengths,
        shared.scores,
        shared.attended.numpy(),
    )
    if shared.workers == 1:
        _attend(*arrays, shared.parts, 0, 1)
    else:
        _attend_together(*arrays, shared.parts, shared.workers)
    return shared.attended.to(q.dtype) if out is None else out.copy_(shared.attended)


@compiled()
def _score(q: _Array, k_cache: _Array, table: _Array, length: int, head: int, scores: _Array) -> None:
    """scores [group, longest]: the products of the queries q [group, head_dim] with a KV head's keys.

    Four keys at a time: the loop over their elements then holds four sums, and adds up each sum's lanes once."""
    block_size = k_cache.shape[1]
    for position in range(0, length, block_size):
        block = table[position // block_size]
        count = min(block_size, length - position)
        for group in range(q.shape[0]):
            for slot in range(0, count - 3, 4):
                first, second, third, fourth = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
                for element in range(q.shape[1]):
                    x = q[group, element]
                    first += x * widened(k_cache[block, slot, head, element])
                    second += x * widened(k_cache[block, slot + 1, head, element])
                    third += x * widened(k_cache[block, slot + 2, head, element])
                    fourth += x * widened(k_cache[block, slot + 3, head, element])
                scores[group, position + slot] = first
                scores[group, position + slot + 1] = second
                scores[group, position + slot + 2] = third
                scores[group, position + slot + 3] = fourth
            for slot in range(count - count % 4, count):
                first = np.float32(0)
                for element in range(q.shape[1]):
                    first += q[group, element] * widened(k_cache[block, slot, head, element])
                scores[group, position + slot] = first


@compiled()
def _softmax(scores: _Array) -> None:
    """Over the one dimension of `scores`, in place."""
    top = scores[0]
    for position in range(len(scores)):
        top = max(top, scores[position])
    total = np.float32(0)
    for position in range(len(scores)):
        scores[position] = exponential(scores[position] - top)
        total += scores[position]
    for position in range(len(scores)):
        scores[position] /= total


@compiled()
def _weigh(scores: _Array, v_cache: _Array, table: _Array, length: int, head: int, attended: _Array) -> None:
    """attended [group, head_dim]: the sum of a KV head's values, weighted by the scores [group, longest]."""
    block_size = v_cache.shape[1]
    attended[:] = np.float32(0)
    for position in range(0, length, block_size):
        block = table[position // block_size]
        count = min(block_size, length - position)
        for group in range(attended.shape[0]):
            for slot in range(0, count - 3, 4):
                first, second = scores[group, position + slot], scores[group, position + slot + 1]
                third, fourth = scores[group, position + slot + 2], scores[group, position + slot + 3]
                for element in range(attended.shape[1]):
                    attended[group, element] += (
                        first * widened(v_cache[block, slot, head, element])
                        + second * widened(v_cache[block, slot + 1, head, element])
                        + third * widened(v_cache[block, slot + 2, head, element])
                        + fourth * widened(v_cache[block, slot + 3, head, element])
                    )
            for slot in range(count - count % 4, count):
                first = scores[group, position + slot]
                for element in range(attended.shape[1]):
                    attended[group, element] += first * widened(v_cache[block, slot, head, element])


@compiled()
def _attend(
    q: _Array,
    k_cache: _Array,
    v_cache: _Array,
    tables: _Array,
    lengths: _Array,
    scores: _Array,
    attended: _Array,
    parts: int,
    worker: int,
    workers: int,
) -> None:
    """One worker's share, every `workers`-th part: where sequences come in order of length, all have as much to do."""
    kv_heads = k_cache.shape[2]
    group = q.shape[1] // kv_heads
    per_part = kv_heads // parts
    for part in range(worker, len(lengths) * parts, workers):
        sequence, first_head = part // parts, part % parts * per_part
        length, table = lengths[sequence], tables[sequence]
        for head in range(first_head, first_head + per_part):
            heads = slice(head * group, (head + 1) * group)
            _score(q[sequence, heads], k_cache, table, length, head, scores[sequence, heads])
        for row in range(first_head * group, (first_head + per_part) * group):
            _softmax(scores[sequence, row, :length])
        for head in range(first_head, first_head + per_part):
            heads = slice(head * group, (head + 1) * group)
            _weigh(scores[sequence, heads], v_cache, table, length, head, attended[sequence, heads])


@compiled(parallel=True)
def _attend_together(
    q: _Array,
    k_cache: _Array,
    v_cache: _Array,
    tables: _Array,
    lengths: _Array,
    scores: _Array,
    attended: _Array,
    parts: int,
    workers: int,
) -> None:
    for worker in numba.prange(workers):
        _attend(q, k_cache, v_cache, tables, lengths, scores, attended, parts, worker, workers)
