"""paged_prefill in torch for the CPU: prompts are long enough to be attended to one sequence after another."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from octavo_kernels.cache_slots import gather, slots_of


@dataclass(frozen=True)
class Prompt:
    """One sequence's new tokens."""

    queries: slice
    slots: Tensor  # [1, keys] int64: the tokens that any query sees, the new ones last
    mask: Tensor | None  # [queries, keys]: -inf where a query does not see a key; None: it sees all that are no younger


PrefillPlan = tuple[Prompt, ...]


def plan(
    block_tables: Tensor, seq_lens: Tensor, query_start: Tensor, k_cache: Tensor, window: int | None = None
) -> PrefillPlan:
    """See `octavo_kernels.paged_prefill`."""
    starts = query_start.tolist()
    prompts = []
    for sequence, length in enumerate(seq_lens.tolist()):
        queries = slice(starts[sequence], starts[sequence + 1])
        count = queries.stop - queries.start
        reach = length if window is None else window
        positions = torch.arange(max(0, length - count + 1 - reach), length).unsqueeze(0)
        slots = slots_of(block_tables[sequence : sequence + 1], positions, k_cache.shape[1])
        keys = positions.shape[1]
        mask = None
        if count < keys or reach < count:
            hidden = torch.full((count, keys), -torch.inf, dtype=k_cache.dtype)
            mask = hidden.triu(keys - count + 1)
            if reach < keys:
                mask += hidden.tril(keys - count - reach)
        prompts.append(Prompt(queries, slots, mask))
    return tuple(prompts)


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
    window: int | None = None,
    softcap: float | None = None,
    prompts: PrefillPlan | None = None,
) -> Tensor:
    """See `octavo_kernels.paged_prefill`. The blocks of a cache must lie one behind another."""
    out = torch.empty(q.shape, dtype=q.dtype) if out is None else out
    for prompt in plan(block_tables, seq_lens, query_start, k_cache, window) if prompts is None else prompts:
        queries = q[prompt.queries].transpose(0, 1).unsqueeze(0)
        keys = gather(k_cache, prompt.slots).transpose(1, 2)
        values = gather(v_cache, prompt.slots).transpose(1, 2)
        if softcap is None:
            attended = scaled_dot_product_attention(
                queries,
                keys,
                values,
                attn_mask=prompt.mask,
                is_causal=prompt.mask is None,
                scale=scale,
                enable_gqa=True,
            )
        else:
            attended = _capped_attention(queries, keys, values, prompt.mask, scale, softcap)
        out[prompt.queries] = attended.squeeze(0).transpose(0, 1)
    return out


def _capped_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, softcap: float) -> Tensor:
    """scaled_dot_product_attention of capped scores, which torch has not: q [1, heads, queries, head_dim]; k, v [1,
    kv_heads, keys, head_dim]. One KV head after another, for the scores are kept whole, in float32."""
    count, keys = q.shape[2], k.shape[2]
    mask = torch.full((count, keys), -torch.inf).triu_(1) if mask is None else mask
    groups = []
    for queries, head_keys, head_values in zip(q.chunk(k.shape[1], dim=1), k.unbind(1), v.unbind(1), strict=True):
        scores = queries.float() @ head_keys.float().unsqueeze(1).transpose(2, 3)
        scores = scores.mul_(scale / softcap).tanh_().mul_(softcap).add_(mask)
        groups.append(scores.softmax(-1) @ head_values.float().unsqueeze(1))
    return torch.cat(groups, dim=1).to(q.dtype)
