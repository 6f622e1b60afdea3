"""Where tokens lie in the paged KV cache, and copying them out of it, in torch for the CPU forms."""

from torch import Tensor
from torch.nn.functional import embedding


def slots_of(block_tables: Tensor, positions: Tensor, block_size: int) -> Tensor:
    """[batch, length] int64: the slot of each position [batch, length] of the sequences with these block tables
    [batch, width]."""
    blocks = block_tables.gather(1, (positions // block_size).long())
    return blocks.long() * block_size + positions % block_size


def gather(cache: Tensor, slots: Tensor) -> Tensor:
    """[*slots.shape, kv_heads, head_dim]: copies of the tokens in `slots`. The blocks of a cache [blocks, block_size,
    kv_heads, head_dim] must lie one behind another."""
    rows = cache.view(-1, cache.shape[2] * cache.shape[3])
    return embedding(slots, rows).view(*slots.shape, *cache.shape[2:])
