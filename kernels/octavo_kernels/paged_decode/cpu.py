"""paged_decode for the CPU: a sequence's blocks are read where they lie, once for the keys, once for the values."""

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from octavo_kernels.compiled import as_array, compiled, exponential, widened, workers
from octavo_kernels.vectors import (
    CACHE_LINE,
    LANES,
    add,
    broadcast,
    greatest_lane,
    load,
    maximum,
    multiply_add,
    prefetch,
    store,
    store_sums,
    sum_lanes,
    zeros,
)

# Below this many tokens in all, starting the other threads takes longer than they save.
_FEW_TOKENS = 64

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
    attend(*arrays, shared.parts, shared.workers)
    return shared.attended.to(q.dtype) if out is None else out.copy_(shared.attended)


@compiled()
def _widen(cache: _Array, start: int, slots: int, slot_size: int, head_dim: int, tile: _Array, width: int) -> None:
    """tile [slots * width]: one head's numbers of a block's first slots, from a place in the cache on."""
    whole = head_dim - head_dim % LANES
    for slot in range(slots):
        source, target = start + slot * slot_size, slot * width
        for element in range(0, whole, LANES):
            store(tile, target + element, load(cache, source + element))
        for element in range(whole, head_dim):
            tile[target + element] = widened(cache[source + element])


@compiled()
def _enter_block(
    cache: _Array, table: _Array, position: int, length: int, block_size: int, slot_size: int, first: int, numbers: int
) -> tuple[int, int]:
    """Where in the cache the block at a position begins, and how many of its slots are in use. Asks for `numbers`
    numbers of each slot of the next block, from `first` on, while this one is computed with: the CPU does not foresee
    which block comes next."""
    block_numbers = block_size * slot_size
    if position + block_size < length:
        next_start = int(table[position // block_size + 1]) * block_numbers + first
        for slot in range(block_size):
            line = cache.ctypes.data + (next_start + slot * slot_size) * cache.itemsize
            for address in range(line, line + numbers * cache.itemsize, CACHE_LINE):
                prefetch(address)
    return int(table[position // block_size]) * block_numbers, min(block_size, length - position)


@compiled()
def _score(queries: _Array, keys: _Array, width: int, slots: int, scores: _Array, start: int, stride: int) -> None:
    """The products of the queries [group * width] with a block's keys [slots * width]; of each query they go to
    `scores` from `start` on, and of the next one a stride further. Four keys at a time: each part of a query is fetched
    once for them."""
    for group in range(len(queries) // width):
        query, target = group * width, start + group * stride
        for slot in range(0, slots - 3, 4):
            key = slot * width
            first, second, third, fourth = zeros(), zeros(), zeros(), zeros()
            for element in range(0, width, LANES):
                x = load(queries, query + element)
                first = multiply_add(x, load(keys, key + element), first)
                second = multiply_add(x, load(keys, key + width + element), second)
                third = multiply_add(x, load(keys, key + 2 * width + element), third)
                fourth = multiply_add(x, load(keys, key + 3 * width + element), fourth)
            store_sums(scores, target + slot, first, second, third, fourth)
        for slot in range(slots - slots % 4, slots):
            first = zeros()
            for element in range(0, width, LANES):
                first = multiply_add(load(queries, query + element), load(keys, slot * width + element), first)
            scores[target + slot] = sum_lanes(first)


@compiled()
def _softmax(scores: _Array) -> None:
    """Over the one dimension of `scores`, in place."""
    whole = len(scores) - len(scores) % LANES
    top = scores[0]
    tops = broadcast(top)
    for position in range(0, whole, LANES):
        tops = maximum(tops, load(scores, position))
    for position in range(whole, len(scores)):
        top = max(top, scores[position])
    top = max(top, greatest_lane(tops))
    total = np.float32(0)
    for position in range(len(scores)):
        scores[position] = exponential(scores[position] - top)
        total += scores[position]
    for position in range(len(scores)):
        scores[position] /= total


@compiled()
def _weigh(scores: _Array, start: int, stride: int, values: _Array, width: int, slots: int, sums: _Array) -> None:
    """Adds to sums [group * width] a block's values [slots * width], weighted by the scores as `_score` places them."""
    for group in range(len(sums) // width):
        source = start + group * stride
        for element in range(0, width, LANES):
            even, odd = load(sums, group * width + element), zeros()
            for slot in range(0, slots - 1, 2):
                value = slot * width + element
                even = multiply_add(broadcast(scores[source + slot]), load(values, value), even)
                odd = multiply_add(broadcast(scores[source + slot + 1]), load(values, value + width), odd)
            if slots % 2:
                value = (slots - 1) * width + element
                even = multiply_add(broadcast(scores[source + slots - 1]), load(values, value), even)
            store(sums, group * width + element, add(even, odd))


@compiled()
def _attend_share(
    q: _Array,
    k_cache: _Array,
    v_cache: _Array,
    tables: _Array,
    lengths: _Array,
    scores: _Array,
    attended: _Array,
    parts: int,
    worker: int | np.int64,  # numba's own counter has no sign, and mixed with others becomes a float
    workers: int,
) -> None:
    """One worker's share, every `workers`-th part: where sequences come in order of length, all have as much to do."""
    block_size, kv_heads, head_dim = k_cache.shape[1], k_cache.shape[2], k_cache.shape[3]
    q_heads, longest = scores.shape[1], scores.shape[2]
    group = q_heads // kv_heads
    per_part = kv_heads // parts
    width = -(-head_dim // LANES) * LANES  # a head's numbers in whole vectors
    slot_size = kv_heads * head_dim
    keys, values, all_scores = k_cache.reshape(-1), v_cache.reshape(-1), scores.reshape(-1)
    tile = np.zeros(block_size * width, np.float32)
    queries, sums = np.zeros((kv_heads, group * width), np.float32), np.zeros((kv_heads, group * width), np.float32)
    for part in range(worker, len(lengths) * parts, workers):
        sequence, first_head = part // parts, part % parts * per_part
        length, table = lengths[sequence], tables[sequence]
        end_head, first_number, numbers = first_head + per_part, first_head * head_dim, per_part * head_dim
        for row in range(first_head * group, end_head * group):
            for element in range(head_dim):
                queries[row // group, row % group * width + element] = q[sequence, row, element]
                sums[row // group, row % group * width + element] = np.float32(0)
        for position in range(0, length, block_size):
            start, slots = _enter_block(keys, table, position, length, block_size, slot_size, first_number, numbers)
            for head in range(first_head, end_head):
                _widen(keys, start + head * head_dim, slots, slot_size, head_dim, tile, width)
                first = (sequence * q_heads + head * group) * longest + position
                _score(queries[head], tile, width, slots, all_scores, first, longest)
        for row in range(first_head * group, end_head * group):
            _softmax(scores[sequence, row, :length])
        for position in range(0, length, block_size):
            start, slots = _enter_block(values, table, position, length, block_size, slot_size, first_number, numbers)
            for head in range(first_head, end_head):
                _widen(values, start + head * head_dim, slots, slot_size, head_dim, tile, width)
                first = (sequence * q_heads + head * group) * longest + position
                _weigh(all_scores, first, longest, tile, width, slots, sums[head])
        for row in range(first_head * group, end_head * group):
            for element in range(head_dim):
                attended[sequence, row, element] = sums[row // group, row % group * width + element]


@compiled(parallel=True)
def attend(
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
    """attended [sequences, q_heads, head_dim] float32 of q, which is scaled already, by so many threads; the other
    arguments are those of a DecodePlan."""
    for worker in numba.prange(workers):
        _attend_share(q, k_cache, v_cache, tables, lengths, scores, attended, parts, np.int64(worker), workers)
