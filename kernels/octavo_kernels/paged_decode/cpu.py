"""paged_decode in torch for the CPU: the keys of the whole batch are gathered, then attended to in one call."""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

# Sequences are attended to in groups whose gathered keys fit into this many bytes: a larger scratch tensor leaves the
# CPU's caches and is mapped anew by the allocator at every call, which takes longer than the attention.
SCRATCH_BYTES = 4 << 20


def paged_decode(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    scale: float,
    out: Tensor | None = None,
) -> Tensor:
    """See `octavo_kernels.paged_decode`. The blocks of a cache must lie one behind another."""
    batch, _, head_dim = q.shape
    bytes_per_sequence = int(seq_lens.max()) * k_cache.shape[2] * head_dim * k_cache.itemsize
    group_size = max(1, SCRATCH_BYTES // bytes_per_sequence)
    if batch <= group_size:
        attended = _attend(q, k_cache, v_cache, block_tables, seq_lens, scale)
        return attended if out is None else out.copy_(attended)

    out = torch.empty(q.shape, dtype=q.dtype) if out is None else out
    # In order of length, so that little is padded inside a group.
    for rows in torch.split(seq_lens.argsort(), group_size):
        out[rows] = _attend(q[rows], k_cache, v_cache, block_tables[rows], seq_lens[rows], scale)
    return out


def _attend(
    q: Tensor, k_cache: Tensor, v_cache: Tensor, block_tables: Tensor, seq_lens: Tensor, scale: float
) -> Tensor:
    batch, q_heads, head_dim = q.shape
    kv_heads = k_cache.shape[2]
    shortest, longest = (int(length) for length in seq_lens.aminmax())
    if shortest == longest:
        keys, values = (_gather_blocks(cache, block_tables, longest) for cache in (k_cache, v_cache))
        mask = None
    else:
        positions = torch.arange(longest, dtype=seq_lens.dtype)
        last = (seq_lens - 1).unsqueeze(1)
        slots = _slots(block_tables, torch.minimum(positions, last), k_cache.shape[1])
        keys, values = (_gather_slots(cache, slots) for cache in (k_cache, v_cache))
        mask = torch.zeros(batch, longest, dtype=q.dtype).masked_fill_(positions > last, -torch.inf)[:, None, None]
    # The query heads that share a KV head are its query rows: the keys need not be repeated.
    grouped = q.reshape(batch, kv_heads, q_heads // kv_heads, head_dim)
    attended = scaled_dot_product_attention(
        grouped, keys.transpose(1, 2), values.transpose(1, 2), attn_mask=mask, scale=scale
    )
    return attended.reshape(q.shape)


def _gather_blocks(cache: Tensor, block_tables: Tensor, length: int) -> Tensor:
    """[batch, length, kv_heads, head_dim]: the first `length` tokens of every sequence, copied block by block."""
    block_size = cache.shape[1]
    blocks = block_tables[:, : -(-length // block_size)]
    return cache.index_select(0, blocks.flatten()).view(len(blocks), -1, *cache.shape[2:])[:, :length]


def _slots(block_tables: Tensor, positions: Tensor, block_size: int) -> Tensor:
    """[batch, longest]: where each position lies in the cache."""
    blocks = block_tables.gather(1, (positions // block_size).long())
    return blocks * block_size + positions % block_size


def _gather_slots(cache: Tensor, slots: Tensor) -> Tensor:
    """[batch, longest, kv_heads, head_dim]: the tokens in `slots`."""
    rows = cache.view(-1, cache.shape[2] * cache.shape[3])
    return rows.index_select(0, slots.flatten()).view(*slots.shape, *cache.shape[2:])
