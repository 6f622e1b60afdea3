"""paged_decode in torch for the CPU: the keys of many sequences are gathered, then attended to in one call."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding, scaled_dot_product_attention

from octavo_kernels.cache_slots import gather, slots_of

# The gathered keys of a group fit into this many bytes: a larger scratch tensor leaves the CPU's caches and is mapped
# anew by the allocator at every call, which takes longer than the attention. Measured on 64 sequences of 16 to 630
# tokens: 4.8 ms a layer with 4 MiB, 2.8 ms with 1 MiB, 2.7 ms with a quarter of it.
SCRATCH_BYTES = 1 << 20


@dataclass(frozen=True)
class Group:
    """Sequences that follow each other in the batch and are of similar length, attended to in one call."""

    sequences: slice
    longest: int
    slots: Tensor | None  # [sequences, longest] int64; past its end a sequence repeats its last slot
    blocks: Tensor | None  # [sequences, blocks] instead, where all are equally long: whole blocks are copied faster
    mask: Tensor | None  # [sequences, 1, 1, longest]: -inf past a sequence's end; None: all are equally long


DecodePlan = tuple[Group, ...]


def plan(block_tables: Tensor, seq_lens: Tensor, k_cache: Tensor) -> DecodePlan:
    """See `octavo_kernels.paged_decode`. Fewest groups where the sequences come in order of length."""
    _, block_size, kv_heads, head_dim = k_cache.shape
    capacity = SCRATCH_BYTES // (kv_heads * head_dim * k_cache.itemsize)
    return tuple(
        _group(members, block_tables[members], seq_lens[members], block_size, k_cache.dtype)
        for members in _runs_of_similar_length(seq_lens.tolist(), capacity)
    )


def paged_decode(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    scale: float,
    out: Tensor | None = None,
    groups: DecodePlan | None = None,
) -> Tensor:
    """See `octavo_kernels.paged_decode`. The blocks of a cache must lie one behind another."""
    groups = plan(block_tables, seq_lens, k_cache) if groups is None else groups
    if len(groups) == 1:
        attended = _attend(q, k_cache, v_cache, groups[0], scale)
        return attended if out is None else out.copy_(attended)
    out = torch.empty(q.shape, dtype=q.dtype) if out is None else out
    for group in groups:
        out[group.sequences] = _attend(q[group.sequences], k_cache, v_cache, group, scale)
    return out


def _runs_of_similar_length(lengths: list[int], capacity: int) -> list[slice]:
    """Cuts the sequences, in their order, into runs of at most `capacity` padded tokens in which none is more than
    twice as long as another, so that less is padded than attended to."""
    runs: list[slice] = []
    start = shortest = longest = 0
    for index, length in enumerate(lengths):
        low, high = min(shortest, length), max(longest, length)
        if index > start and (high > 2 * low or (index - start + 1) * high > capacity):
            runs.append(slice(start, index))
            start, low, high = index, length, length
        elif index == start:
            low, high = length, length
        shortest, longest = low, high
    return [*runs, slice(start, len(lengths))]


def _group(members: slice, block_tables: Tensor, seq_lens: Tensor, block_size: int, dtype: torch.dtype) -> Group:
    shortest, longest = (int(length) for length in seq_lens.aminmax())
    if shortest == longest:
        return Group(members, longest, None, block_tables[:, : -(-longest // block_size)], None)
    positions = torch.arange(longest)
    last = (seq_lens - 1).unsqueeze(1)
    slots = slots_of(block_tables, torch.minimum(positions, last), block_size)
    mask = torch.zeros(slots.shape, dtype=dtype).masked_fill_(positions > last, -torch.inf)
    return Group(members, longest, slots, None, mask[:, None, None])


def _gather(cache: Tensor, group: Group) -> Tensor:
    """[sequences, longest, kv_heads, head_dim]: the keys or values of a group."""
    if group.slots is not None:
        return gather(cache, group.slots)
    assert group.blocks is not None
    copied = embedding(group.blocks, cache.flatten(1))
    return copied.view(len(group.blocks), -1, *cache.shape[2:])[:, : group.longest]


def _attend(q: Tensor, k_cache: Tensor, v_cache: Tensor, group: Group, scale: float) -> Tensor:
    batch, q_heads, head_dim = q.shape
    keys, values = _gather(k_cache, group), _gather(v_cache, group)
    # The query heads that share a KV head are its query rows: the keys need not be repeated.
    kv_heads = keys.shape[2]
    attended = scaled_dot_product_attention(
        q.reshape(batch, kv_heads, q_heads // kv_heads, head_dim),
        keys.transpose(1, 2),
        values.transpose(1, 2),
        attn_mask=group.mask,
        scale=scale,
    )
    return attended.reshape(q.shape)
