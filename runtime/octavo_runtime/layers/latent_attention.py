"""Multi-head latent attention (DeepSeek-V2, 2024) over a paged cache of latents.

A head's key is made of a token's latent, W_k latent, with a turned part behind it that all heads share; its value is
W_v latent. A sequence with one new token reads latents as they are: W_k goes into its query instead, as
q (W_k latent) = (q W_k) latent, and W_v behind the weighted sum of latents. For a sequence with several new tokens,
latents are expanded to keys and values, once for all of them: a few heads at a time, so that memory stays bounded."""

from dataclasses import dataclass

import torch
from torch import Tensor

from octavo_kernels import latent_decode, paged_prefill, rotary_write_latent
from octavo_runtime.layers.attention import AttentionPlan, AttentionPlans
from octavo_runtime.layers.batch import Batch
from octavo_runtime.layers.cache_place import CachePlace
from octavo_runtime.layers.expansion_bounds import expanded_size
from octavo_runtime.layers.latent_expansion import Expansion, plan_expansions
from octavo_runtime.layers.linear import Linear, product
from octavo_runtime.layers.norm import RMSNorm
from octavo_runtime.layers.rotary import RotaryEmbedding


@dataclass(frozen=True)
class LatentAttention:
    """The attention of one layer. query_latent, query_norm: what queries are made of; None: the hidden state itself.

    expansion: [heads, plain + value_dim, rank], of each head W_k's rows, then W_v's; plain: entries of a head that are
    not turned, the first ones."""

    queries: Linear  # hidden or query latent -> heads * head_dim
    compression: Linear  # hidden -> rank + rope
    latent_norm: RMSNorm
    expansion: Tensor
    output: Linear  # heads * value_dim -> hidden
    rotary: RotaryEmbedding
    head_dim: int
    value_dim: int
    scale: float
    place: CachePlace  # in the one group of layers that there is
    query_latent: Linear | None = None
    query_norm: RMSNorm | None = None

    @property
    def num_bytes(self) -> int:
        parts = self.queries, self.compression, self.latent_norm, self.output, self.query_latent, self.query_norm
        return self.expansion.nbytes + sum(part.num_bytes for part in parts if part is not None)

    @property
    def num_heads(self) -> int:
        return len(self.expansion)

    @property
    def rank(self) -> int:
        """Entries of a latent."""
        return self.expansion.shape[2]

    @property
    def plain(self) -> int:
        """Entries of a head that are not turned."""
        return self.expansion.shape[1] - self.value_dim

    def plan(self, batch: Batch, kv_cache: Tensor) -> AttentionPlans:
        """What the layers share in a step. kv_cache: [layer, 1, block, slot, 1, rank + rope]."""
        if batch.prefill is None:
            return [AttentionPlan(None, None)]
        size = expanded_size(self.head_dim, self.head_dim - self.plain, self.value_dim)
        expansions = plan_expansions(batch.prefill, _latents(kv_cache[0]), self.num_heads, self.head_dim, size)
        return [AttentionPlan(None, None, expansions)]

    def project(
        self, hidden: Tensor, positions: Tensor, slots: Tensor, kv_cache: Tensor, room: Tensor | None = None
    ) -> Tensor:
        """Queries [tokens, heads, head_dim]; the tokens' latents are written to their slots.

        positions, slots: see Batch; slots of this layer's group. kv_cache: this layer's, [1, block, slot, 1, rank +
        rope]. room: where queries are computed, [tokens, heads * head_dim]; allocated if None."""
        source = hidden
        if self.query_latent is not None and self.query_norm is not None:
            source = self.query_norm(self.query_latent(hidden))
        q = self.queries(source, room).view(-1, self.num_heads, self.head_dim)
        compressed = self.compression(hidden)
        latent, key = self.latent_norm(compressed[:, : self.rank]), compressed[:, self.rank :]
        table, cache = self.rotary.table, _latents(kv_cache)
        rotary_write_latent(q[..., self.plain :], latent, key, positions, table, cache, slots)
        return q

    def attend(
        self, q: Tensor, batch: Batch, plans: AttentionPlans, kv_cache: Tensor, out: Tensor | None = None
    ) -> Tensor:
        """What the queries of a batch [tokens, heads, head_dim] find in the cache, [tokens, heads, value_dim]. out:
        where to write; allocated if None. Rows behind the batch's tokens are padding, and are not written."""
        out = q.new_empty(*q.shape[:2], self.value_dim) if out is None else out
        cache, split = _latents(kv_cache), batch.num_decodes
        if batch.decode is not None:
            absorbed = self._absorbed(q[:split])
            tables, lengths = batch.decode.block_tables[0], batch.decode.seq_lens
            latents = latent_decode(absorbed, cache, tables, lengths, self.scale, self.rank)
            values = torch.bmm(latents.transpose(0, 1), self.expansion[:, self.plain :].transpose(1, 2))
            out[:split] = values.transpose(0, 1)
        for expansion in plans[0].expansions:
            self._attend_expanded(q[split:][expansion.queries], expansion, cache, out[split:][expansion.queries])
        return out

    def _absorbed(self, q: Tensor) -> Tensor:
        """Queries [tokens, heads, rank + rope] of latents as they are."""
        plain, turned = q.split([self.plain, self.head_dim - self.plain], dim=-1)
        absorbed = torch.bmm(plain.transpose(0, 1), self.expansion[:, : self.plain])
        return torch.cat((absorbed.transpose(0, 1), turned), dim=-1)

    def _attend_expanded(self, q: Tensor, expansion: Expansion, cache: Tensor, out: Tensor) -> None:
        """q, out: of the expansion's queries, [queries, heads, ...]."""
        latents = cache[expansion.blocks]
        for first in range(0, self.num_heads, expansion.heads):
            heads = slice(first, first + expansion.heads)
            keys, values = self._expanded(latents, heads)
            attended = paged_prefill(
                q[:, heads],
                keys,
                values,
                expansion.block_tables,
                expansion.seq_lens,
                expansion.query_start,
                expansion.max_query_len,
                self.scale,
                plan=expansion.plan,
            )
            out[:, heads] = attended[..., : self.value_dim]

    def _expanded(self, latents: Tensor, heads: slice) -> tuple[Tensor, Tensor]:
        """Keys and values [block, slot, heads, head_dim] of latents [block, slot, rank + rope]; behind the values are
        zeros, since attention takes both of one size."""
        weight = self.expansion[heads]
        tokens = latents.flatten(0, 1)[:, : self.rank]
        products = product(tokens, weight.flatten(0, 1)).view(*latents.shape[:2], *weight.shape[:2])
        keys, values = latents.new_empty(2, *products.shape[:3], self.head_dim)
        keys[..., : self.plain] = products[..., : self.plain]
        keys[..., self.plain :] = latents[..., None, self.rank :]
        values[..., : self.value_dim] = products[..., self.plain :]
        values[..., self.value_dim :] = 0
        return keys, values


def _latents(layer_cache: Tensor) -> Tensor:
    """[block, slot, rank + rope] of a layer's cache [1, block, slot, 1, rank + rope]."""
    return layer_cache[0].squeeze(2)
