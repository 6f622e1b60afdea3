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
    slots: Tensor  # [1, length] int64: all its tokens, the new ones last
    mask: Tensor | None  # [queries, length]: -inf where a key is younger than the query; None: every token is new


PrefillPlan = tuple[Prompt, ...]


def plan(block_tables: Tensor, seq_lens: Tensor, query_start: Tensor, k_cache: Tensor) -> PrefillPlan:
    """See `octavo_kernels.paged_prefill`."""
    starts = query_start.tolist()
    prompts = []
    for sequence, length in enumerate(seq_lens.tolist()):
        queries = slice(starts[sequence], starts[sequence + 1])
        count = queries.stop - queries.start
        positions = torch.arange(length).unsqueeze(0)
        slots = slots_of(block_tables[sequence : sequence + 1], positions, k_cache.shape[1])
        mask = None
        if count < length:
            mask = torch.full((count, length), -torch.inf, dtype=k_cache.dtype).triu_(length - count + 1)
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
    prompts: PrefillPlan | None = None,
) -> Tensor:
    """See `octavo_kernels.paged_prefill`. The blocks of a cache must lie one behind another."""
    out = torch.empty(q.shape, dtype=q.dtype) if out is None else out
    for prompt in plan(block_tables, seq_lens, query_start, k_cache) if prompts is None else prompts:
        attended = scaled_dot_product_attention(
            q[prompt.queries].transpose(0, 1).unsqueeze(0),
            gather(k_cache, prompt.slots).transpose(1, 2),
            gather(v_cache, prompt.slots).transpose(1, 2),
            attn_mask=prompt.mask,
            is_causal=prompt.mask is None,
            scale=scale,
            enable_gqa=True,
        )
        out[prompt.queries] = attended.squeeze(0).transpose(0, 1)
    return out
