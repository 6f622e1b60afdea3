"""paged_decode in torch for the CPU: the keys of many sequences are gathered, then attended to in one call."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from octavo_kernels.cache_slots import gather, slots_of

# The gathered keys of a group fit into this many bytes: a larger scratch tensor leaves the CPU's caches and is mapped
# anew by the allocator at every call, which takes longer than the attention. Measured on 64 sequences of 16 to 630
# tokens: 4.8 ms a layer with 4 MiB, 2.8 ms with 1 MiB, 2.7 ms with a quarter of it.
SCRATCH_BYTES = 1 << 20


@dataclass(frozen=True)
class Group:
    """Sequences of similar length, attended to in one call."""

    sequences: Tensor | None  # [sequences] int64; None: the whole batch in its order
    slots: Tensor  # [sequences, longest] int64; past its end a sequence repeats its last slot
    mask: Tensor | None  # [sequences, 1, 1, longest]: -inf past a sequence's end; None: all are equally long


DecodePlan = tuple[Group, ...]


def plan(block_tables: Tensor, seq_lens: Tensor, k_cache: Tensor) -> DecodePlan:
    """See `octavo_kernels.paged_decode`."""
    _, block_size, kv_heads, head_dim = k_cache.shape
    capacity = SCRATCH_BYTES // (kv_heads * head_dim * k_cache.itemsize)
    members = _by_length(seq_lens.tolist(), capacity)
    if len(members) == 1:
        return (_group(None, block_tables, seq_lens, block_size, k_cache.dtype),)
    groups = []
    for sequences in map(torch.tensor, members):
        groups.append(_group(sequences, block_tables[sequences], seq_lens[sequences], block_size, k_cache.dtype))
    return tuple(groups)


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
    if groups[0].sequences is None:
        attended = _attend(q, k_cache, v_cache, groups[0], scale)
        return attended if out is None else out.copy_(attended)
    out = torch.empty(q.shape, dtype=q.dtype) if out is None else out
    for group in groups:
        assert group.sequences is not None
        out.index_copy_(0, group.sequences, _attend(q[group.sequences], k_cache, v_cache, group, scale))
    return out


def _by_length(lengths: list[int], capacity: int) -> list[list[int]]:
    """The sequences from long to short, in groups of at most `capacity` padded tokens: each member is at least half as
    long as the longest, so that less is padded than attended to."""
    groups: list[list[int]] = []
    longest = 0
    for sequence in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if groups and 2 * lengths[sequence] >= longest and (len(groups[-1]) + 1) * longest <= capacity:
            groups[-1].append(sequence)
        else:
            groups.append([sequence])
            longest = lengths[sequence]
    return groups


def _group(
    sequences: Tensor | None, block_tables: Tensor, seq_lens: Tensor, block_size: int, dtype: torch.dtype
) -> Group:
    shortest, longest = (int(length) for length in seq_lens.aminmax())
    positions = torch.arange(longest)
    last = (seq_lens - 1).unsqueeze(1)
    slots = slots_of(block_tables, torch.minimum(positions, last), block_size)
    if shortest == longest:
        return Group(sequences, slots, None)
    mask = torch.zeros(slots.shape, dtype=dtype).masked_fill_(positions > last, -torch.inf)
    return Group(sequences, slots, mask[:, None, None])


def _attend(q: Tensor, k_cache: Tensor, v_cache: Tensor, group: Group, scale: float) -> Tensor:
    batch, q_heads, head_dim = q.shape
    keys, values = gather(k_cache, group.slots), gather(v_cache, group.slots)
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
