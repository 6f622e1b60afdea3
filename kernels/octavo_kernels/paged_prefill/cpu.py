"""paged_prefill in torch for the CPU: prompts are long enough to be attended to one sequence after another."""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def paged_prefill(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    query_start: Tensor,
    max_query_len: int,  # noqa: ARG001 - the Triton form sizes its launch by it
    scale: float,
    out: Tensor | None = None,
) -> Tensor:
    """See `octavo_kernels.paged_prefill`."""
    out = torch.empty(q.shape, dtype=q.dtype) if out is None else out
    starts = query_start.tolist()
    for sequence, length in enumerate(seq_lens.tolist()):
        queries = slice(starts[sequence], starts[sequence + 1])
        keys, values = (_gather(cache, block_tables[sequence], length) for cache in (k_cache, v_cache))
        out[queries] = _attend(q[queries], keys, values, scale)
    return out


def _gather(cache: Tensor, blocks: Tensor, length: int) -> Tensor:
    """[length, kv_heads, head_dim]: the first `length` tokens of a sequence."""
    block_size = cache.shape[1]
    return cache.index_select(0, blocks[: -(-length // block_size)]).flatten(0, 1)[:length]


def _attend(q: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """[queries, q_heads, head_dim]: causal attention of the last tokens of one sequence."""
    queries, length = len(q), len(keys)
    whole_prompt = queries == length
    mask = None
    if not whole_prompt and queries > 1:
        mask = torch.ones(queries, length, dtype=torch.bool).tril_(length - queries)
    attended = scaled_dot_product_attention(
        q.transpose(0, 1).unsqueeze(0),
        keys.transpose(0, 1).unsqueeze(0),
        values.transpose(0, 1).unsqueeze(0),
        attn_mask=mask,
        is_causal=whole_prompt,
        scale=scale,
        enable_gqa=True,
    )
    return attended.squeeze(0).transpose(0, 1)
