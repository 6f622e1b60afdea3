"""Rotary grouped-query attention (Ainslie et al. 2023) over a paged KV cache."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from octavo_kernels import paged_decode, paged_prefill, write_kv
from octavo_kernels.paged_decode import plan_decode
from octavo_kernels.paged_prefill import plan_prefill
from octavo_runtime.layers.batch import Batch
from octavo_runtime.layers.linear import Linear
from octavo_runtime.layers.norm import RMSNorm
from octavo_runtime.layers.rotary import RotaryEmbedding

if TYPE_CHECKING:
    from octavo_kernels.paged_decode.cpu import DecodePlan
    from octavo_kernels.paged_decode.hopper import HopperPlan
    from octavo_kernels.paged_prefill.cpu import PrefillPlan
    from octavo_kernels.paged_prefill.hopper import HopperPrefillPlan


class AttentionPlan(NamedTuple):
    """What attention computes of a batch's tables and lengths, once for all layers."""

    decode: "DecodePlan | HopperPlan | None"
    prefill: "PrefillPlan | HopperPrefillPlan | None"


def plan_attention(batch: Batch, kv_cache: Tensor, num_heads: int) -> AttentionPlan:
    """kv_cache: [layer, 2, block, slot, kv_head, head_dim]."""
    decode, prefill, keys = batch.decode, batch.prefill, kv_cache[0, 0]
    return AttentionPlan(
        None if decode is None else plan_decode(decode.block_tables, decode.seq_lens, keys, num_heads),
        None
        if prefill is None
        else plan_prefill(
            prefill.block_tables, prefill.seq_lens, prefill.query_start, keys, num_heads, prefill.lengths
        ),
    )


@dataclass(frozen=True)
class Attention:
    """The attention of one layer."""

    qkv: Linear  # hidden -> (heads + 2 * kv_heads) * head_dim
    output: Linear  # heads * head_dim -> hidden
    rotary: RotaryEmbedding | None
    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    q_norm: RMSNorm | None = None
    k_norm: RMSNorm | None = None

    @property
    def num_bytes(self) -> int:
        norms = sum(norm.num_bytes for norm in (self.q_norm, self.k_norm) if norm is not None)
        return self.qkv.num_bytes + self.output.num_bytes + norms

    def __call__(self, hidden: Tensor, batch: Batch, plan: AttentionPlan, kv_cache: Tensor) -> Tensor:
        """[tokens, hidden]. kv_cache: this layer's, [2, block, slot, kv_head, head_dim]; the keys and values of the
        batch's tokens are written to it."""
        heads = self.num_heads, self.num_kv_heads, self.num_kv_heads
        q, k, v = self.qkv(hidden).view(-1, sum(heads), self.head_dim).split(heads, dim=1)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm.heads(q), self.k_norm.heads(k)
        if self.rotary is not None:
            self.rotary(q, k, batch.positions)
        write_kv(k, v, kv_cache[0], kv_cache[1], batch.slots)
        if batch.prefill is None:
            attended = self._decode(q, batch, plan, kv_cache, None)
        elif batch.decode is None:
            attended = self._prefill(q, batch, plan, kv_cache, None)
        else:
            attended = torch.empty(q.shape, dtype=q.dtype, device=q.device)
            split = batch.num_decodes
            self._decode(q[:split], batch, plan, kv_cache, attended[:split])
            self._prefill(q[split:], batch, plan, kv_cache, attended[split:])
        return self.output(attended.flatten(1))

    def _decode(self, q: Tensor, batch: Batch, plan: AttentionPlan, kv_cache: Tensor, out: Tensor | None) -> Tensor:
        inputs = batch.decode
        assert inputs is not None
        keys, values = kv_cache.unbind()
        return paged_decode(
            q, keys, values, inputs.block_tables, inputs.seq_lens, self.scale, out=out, plan=plan.decode
        )

    def _prefill(self, q: Tensor, batch: Batch, plan: AttentionPlan, kv_cache: Tensor, out: Tensor | None) -> Tensor:
        inputs = batch.prefill
        assert inputs is not None
        keys, values = kv_cache.unbind()
        return paged_prefill(
            q,
            keys,
            values,
            inputs.block_tables,
            inputs.seq_lens,
            inputs.query_start,
            inputs.max_query_len,
            self.scale,
            out=out,
            plan=plan.prefill,
        )
