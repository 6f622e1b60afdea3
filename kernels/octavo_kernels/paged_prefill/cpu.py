"""paged_prefill in torch for the CPU: prompts are long enough to be attended to one sequence after another."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from octavo_kernels.cache_slots import gather, slots_of
from octavo_kernels.eight_bits import LARGEST, from_eight_bits


@dataclass(frozen=True)
class Prompt:
    """One sequence's new tokens."""

    queries: slice
    slots: Tensor  # [1, keys] int64: the tokens that any query sees, the new ones last
    mask: Tensor | None  # [queries, keys]: -inf where a query does not see a key; None: all, or all that are no younger


PrefillPlan = tuple[Prompt, ...]


def plan(
    block_tables: Tensor,
    seq_lens: Tensor,
    query_start: Tensor,
    k_cache: Tensor,
    window: int | None = None,
    causal: bool = True,
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
        if (causal and count < keys) or reach < count:
            dtype = torch.float32 if k_cache.dtype in LARGEST else k_cache.dtype
            hidden = torch.full((count, keys), -torch.inf, dtype=dtype)
            mask = hidden.triu(keys - count + (1 if causal else reach))
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
    sinks: Tensor | None = None,
    slopes: Tensor | None = None,
    scales: Tensor | None = None,
    prompts: PrefillPlan | None = None,
    causal: bool = True,
) -> Tensor:
    """See `octavo_kernels.paged_prefill`. The blocks of a cache must lie one behind another."""
    out = torch.empty(q.shape, dtype=q.dtype) if out is None else out
    if prompts is None:
        prompts = plan(block_tables, seq_lens, query_start, k_cache, window, causal)
    for prompt in prompts:
        queries = q[prompt.queries].transpose(0, 1).unsqueeze(0)
        keys, values = (
            _read(cache, prompt.slots, None if scales is None else scales[part], q.dtype).transpose(1, 2)
            for part, cache in enumerate((k_cache, v_cache))
        )
        mask = prompt.mask if prompt.mask is None or scales is None else prompt.mask.to(q.dtype)
        if softcap is None and sinks is None and slopes is None:
            attended = scaled_dot_product_attention(
                queries,
                keys,
                values,
                attn_mask=mask,
                is_causal=causal and mask is None,
                scale=scale,
                enable_gqa=True,
            )
        else:
            attended = _attention(queries, keys, values, mask, scale, softcap, sinks, slopes, causal)
        out[prompt.queries] = attended.squeeze(0).transpose(0, 1)
    return out


def _read(cache: Tensor, slots: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """`gather`, and out of 8 bits."""
    if scale is None:
        return gather(cache, slots)
    stored = gather(cache.view(torch.int8), slots).view(cache.dtype)
    return from_eight_bits(stored, scale, dtype)


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    scale: float,
    softcap: float | None,
    sinks: Tensor | None,
    slopes: Tensor | None,
    causal: bool,
) -> Tensor:
    """scaled_dot_product_attention of capped scores, with sinks or with slopes, which torch has not: q [1, heads,
    queries, head_dim]; k, v [1, kv_heads, keys, head_dim]. One KV head after another, for the scores are kept whole, in
    float32."""
    count, keys = q.shape[2], k.shape[2]
    if mask is None:
        mask = torch.full((count, keys), -torch.inf).triu_(1) if causal else torch.zeros(count, keys)
    kv_heads = k.shape[1]
    distance = torch.arange(keys) - torch.arange(keys - count, keys).unsqueeze(1)
    no_groups = [None] * kv_heads
    sink_groups = no_groups if sinks is None else sinks.chunk(kv_heads)
    slope_groups = no_groups if slopes is None else slopes.chunk(kv_heads)
    groups = []
    for queries, head_keys, head_values, sink, slope in zip(
        q.chunk(kv_heads, dim=1), k.unbind(1), v.unbind(1), sink_groups, slope_groups, strict=True
    ):
        scores = (queries.float() @ head_keys.float().unsqueeze(1).transpose(2, 3)).mul_(scale)
        if softcap is not None:
            scores.div_(softcap).tanh_().mul_(softcap)
        if slope is not None:
            scores.add_(slope.view(1, -1, 1, 1) * distance)
        scores.add_(mask)
        if sink is not None:
            scores = torch.cat((scores, sink.view(1, -1, 1, 1).expand(-1, -1, count, 1)), dim=-1)
        groups.append(scores.softmax(-1)[..., :keys] @ head_values.float().unsqueeze(1))
    return torch.cat(groups, dim=1).to(q.dtype)
