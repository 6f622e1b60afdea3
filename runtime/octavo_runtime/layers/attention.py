"""Grouped-query attention (Ainslie et al. 2023) over a paged KV cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from octavo_kernels import paged_decode, paged_prefill, rotary_write_kv, write_kv
from octavo_kernels.begun_norm import rows_of
from octavo_kernels.paged_decode import plan_decode
from octavo_kernels.paged_prefill import plan_prefill
from octavo_kernels.skinny_linear import HEAD_DIMS
from octavo_runtime.layers.batch import Batch
from octavo_runtime.layers.cache_place import CachePlace
from octavo_runtime.layers.latent_expansion import Expansion
from octavo_runtime.layers.linear import HeadsPlace, Linear, Norming
from octavo_runtime.layers.norm import HeadNorm
from octavo_runtime.layers.residual import Normed, project
from octavo_runtime.layers.rotary import RotaryEmbedding

if TYPE_CHECKING:
    from octavo_kernels.paged_decode.cpu import DecodePlan
    from octavo_kernels.paged_decode.hopper import HopperPlan
    from octavo_kernels.paged_prefill.cpu import PrefillPlan
    from octavo_kernels.paged_prefill.hopper import HopperPrefillPlan


class AttentionPlan(NamedTuple):
    """What attention computes of a batch's tables and lengths, once for all layers of a group. expansions: of latent
    attention, instead of a plan of prefill."""

    decode: "DecodePlan | HopperPlan | None"
    prefill: "PrefillPlan | HopperPrefillPlan | None"
    expansions: tuple[Expansion, ...] = ()


AttentionPlans = Sequence[AttentionPlan]
"""Of the groups of layers."""


def plan_attention(
    batch: Batch,
    kv_cache: Tensor,
    num_heads: int,
    windows: Sequence[int | None],
    softcap: float | None,
    sinks: Tensor | None,
    slopes: Tensor | None,
) -> AttentionPlans:
    """A plan for each group of layers, of which windows are those. kv_cache: see `Decoder.forward`; sinks, slopes: of
    any layer."""
    decode, prefill, keys = batch.decode, batch.prefill, kv_cache[0, 0]
    return [
        AttentionPlan(
            None
            if decode is None
            else plan_decode(
                decode.block_tables[group], decode.seq_lens, keys, num_heads, window, softcap, sinks, slopes
            ),
            None
            if prefill is None
            else plan_prefill(
                prefill.block_tables[group],
                prefill.seq_lens,
                prefill.query_start,
                keys,
                num_heads,
                prefill.lengths,
                window,
                softcap,
                sinks,
                slopes,
            ),
        )
        for group, window in enumerate(windows)
    ]


@dataclass(frozen=True)
class Attention:
    """The attention of one layer: project, attend, and the output projection. window, softcap, sinks, slopes: see
    paged_decode."""

    qkv: Linear  # hidden -> (heads + 2 * kv_heads) * head_dim
    output: Linear  # heads * head_dim -> hidden
    rotary: RotaryEmbedding | None
    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    place: CachePlace
    q_norm: HeadNorm | None = None
    k_norm: HeadNorm | None = None
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None
    slopes: Tensor | None = None  # which all layers share
    norms_follow_rotary: bool = False
    kv_scales: Tensor | None = None  # [2, kv_heads] float32, of a cache of 8 bits: see write_kv

    @property
    def num_bytes(self) -> int:
        norms = sum(norm.num_bytes for norm in (self.q_norm, self.k_norm) if norm is not None)
        sinks = 0 if self.sinks is None else self.sinks.nbytes
        return self.qkv.num_bytes + self.output.num_bytes + norms + sinks

    def project(
        self, hidden: Normed, positions: Tensor, slots: Tensor, kv_cache: Tensor, room: Tensor | None = None
    ) -> Tensor:
        """Queries [tokens, heads, head_dim]; the tokens' keys and values are written to their slots.

        positions, slots: see Batch; slots of this layer's group. kv_cache: this layer's, [2, block, slot, kv_head,
        head_dim]. room: where queries, keys and values are computed, [tokens, (heads + 2 * kv_heads) * head_dim], of
        which the queries stay in front; allocated if None."""
        heads = [self.num_heads, self.num_kv_heads, self.num_kv_heads]
        turned = self._turned_product(hidden, positions, slots, kv_cache, room)
        if turned is not None:
            return turned
        q, k, v = torch.split(project(self.qkv, hidden, room).view(-1, sum(heads), self.head_dim), heads, dim=1)
        if self.rotary is not None and self.norms_follow_rotary:
            q, k = self.rotary.turned(q, positions), self.rotary.turned(k, positions)
        if self.q_norm is not None and self.k_norm is not None:
            normed = self.q_norm.heads(q)
            q, k = normed if room is None else q.copy_(normed), self.k_norm.heads(k)
        keys, values = kv_cache.unbind()
        if self.rotary is None or self.norms_follow_rotary:
            write_kv(k, v, keys, values, slots, self.kv_scales)
        else:
            rotary_write_kv(q, k, v, positions, self.rotary.table, keys, values, slots, self.kv_scales)
        return q

    def _turned_product(
        self, hidden: Normed, positions: Tensor, slots: Tensor, kv_cache: Tensor, room: Tensor | None
    ) -> Tensor | None:
        """What `project` does and brings, where one kernel multiplies, turns and writes; else None."""
        qkv, rotary, width = self.qkv, self.rotary, self.num_heads * self.head_dim
        rows = rows_of(hidden)
        if rotary is None or self.q_norm is not None or self.norms_follow_rotary or kv_cache.dtype != rows.dtype:
            return None
        if self.head_dim not in HEAD_DIMS or rotary.table.shape[1] != self.head_dim:
            return None
        if not isinstance(qkv, Norming) or not qkv.turns_for(hidden):
            return None
        q = rows.new_empty(len(rows), width) if room is None else room[:, :width]
        q = q.view(-1, self.num_heads, self.head_dim)
        keys, values = kv_cache.unbind()
        qkv.turned(hidden, HeadsPlace(q, positions, rotary.table, keys, values, slots))
        return q

    def attend(
        self, q: Tensor, batch: Batch, plans: AttentionPlans, kv_cache: Tensor, out: Tensor | None = None
    ) -> Tensor:
        """What the queries of a batch find in the cache, like q [tokens, heads, head_dim]. out: where to write;
        allocated if None. Rows behind the batch's tokens are padding, and are not written."""
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device) if out is None else out
        keys, values = kv_cache.unbind()
        decode, prefill, split = batch.decode, batch.prefill, batch.num_decodes
        group = self.place.group
        plan = plans[group]
        if decode is not None:
            paged_decode(
                q[:split],
                keys,
                values,
                decode.block_tables[group],
                decode.seq_lens,
                self.scale,
                out[:split],
                plan.decode,
                self.window,
                self.softcap,
                self.sinks,
                self.slopes,
                self.kv_scales,
            )
        if prefill is not None:
            paged_prefill(
                q[split:],
                keys,
                values,
                prefill.block_tables[group],
                prefill.seq_lens,
                prefill.query_start,
                prefill.max_query_len,
                self.scale,
                out[split:],
                plan.prefill,
                self.window,
                self.softcap,
                self.sinks,
                self.slopes,
                self.kv_scales,
            )
        return out
