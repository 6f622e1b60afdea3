"""The forward pass of a decoder described by a ModelSpec, over one packed batch and a paged KV cache."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn.functional import embedding

from octavo_kernels import add_rms_norm, paged_decode, paged_prefill, rms_norm, rotary, silu_mul, write_kv
from octavo_kernels.decode_layers import PackedDecoder
from octavo_kernels.paged_decode import plan_decode
from octavo_kernels.paged_prefill import plan_prefill
from octavo_runtime.layers.linear import FEW_ROWS
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.weights import LayerWeights, Weights
from octavo_runtime.worker.batch import Batch

if TYPE_CHECKING:
    from octavo_kernels.paged_decode.cpu import DecodePlan
    from octavo_kernels.paged_decode.hopper import HopperPlan
    from octavo_kernels.paged_prefill.cpu import PrefillPlan
    from octavo_kernels.paged_prefill.hopper import HopperPrefillPlan


class _AttentionPlan(NamedTuple):
    """What attention computes of a batch's tables and lengths, once for all layers."""

    decode: "DecodePlan | HopperPlan | None"
    prefill: "PrefillPlan | HopperPrefillPlan | None"


class Decoder:
    """A Llama-shaped decoder: pre-norm, rotary grouped-query attention, gated MLP."""

    def __init__(self, spec: ModelSpec, weights: Weights, rope: torch.Tensor) -> None:
        self.spec = spec
        self.weights = weights
        self._rope = rope
        self._scale = spec.head_dim**-0.5
        self._decode_few = _compile_few_rows(spec, weights, rope)

    def forward(self, batch: Batch, kv_cache: torch.Tensor) -> torch.Tensor:
        """Hidden states [tokens, hidden] after the last norm, in the weights' dtype or float32.

        kv_cache: [layer, 2, block, slot, kv_head, head_dim]; the keys and values of the batch's tokens are written to
        it."""
        if self._decode_few is not None and batch.prefill is None and batch.num_decodes <= FEW_ROWS:
            return self._decode_few(batch, kv_cache)
        eps = self.spec.rms_norm_eps
        plan = _plan_attention(batch, kv_cache[0, 0], self.spec.num_heads)
        residual = embedding(batch.token_ids, self.weights.embedding)
        if residual.device.type == "cpu":
            residual = residual.float()  # adding to the stream in 16 bits costs most of the accuracy: docs/adr/0001
        hidden = rms_norm(residual, self.weights.layers[0].input_norm, eps)
        for index, (layer, layer_cache) in enumerate(zip(self.weights.layers, kv_cache.unbind(), strict=True)):
            attended = self._attend(layer, hidden, batch, plan, layer_cache)
            hidden, residual = add_rms_norm(layer.output(attended), residual, layer.mlp_norm, eps)
            inner = silu_mul(layer.gate_up(hidden))
            is_last = index + 1 == len(self.weights.layers)
            next_norm = self.weights.norm if is_last else self.weights.layers[index + 1].input_norm
            hidden, residual = add_rms_norm(layer.down(inner), residual, next_norm, eps)
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Next-token scores [rows, vocab] in float32 for rows of hidden states."""
        return self.scores(hidden).float()

    def scores(self, hidden: torch.Tensor) -> torch.Tensor:
        """The same in the type in which they are computed."""
        return self.weights.head(hidden)

    def _attend(
        self,
        layer: LayerWeights,
        hidden: torch.Tensor,
        batch: Batch,
        plan: _AttentionPlan,
        layer_cache: torch.Tensor,
    ) -> torch.Tensor:
        """[tokens, heads * head_dim]. layer_cache: [2, block, slot, kv_head, head_dim]."""
        spec = self.spec
        qkv = layer.qkv(hidden).view(-1, spec.num_heads + 2 * spec.num_kv_heads, spec.head_dim)
        q, k, v = qkv.split((spec.num_heads, spec.num_kv_heads, spec.num_kv_heads), dim=1)
        rotary(q, k, batch.positions, self._rope)
        write_kv(k, v, layer_cache[0], layer_cache[1], batch.slots)
        if batch.prefill is None:
            attended = self._decode(q, batch, plan, layer_cache, None)
        elif batch.decode is None:
            attended = self._prefill(q, batch, plan, layer_cache, None)
        else:
            attended = torch.empty(q.shape, dtype=q.dtype, device=q.device)
            split = batch.num_decodes
            self._decode(q[:split], batch, plan, layer_cache, attended[:split])
            self._prefill(q[split:], batch, plan, layer_cache, attended[split:])
        return attended.flatten(1)

    def _decode(
        self, q: torch.Tensor, batch: Batch, plan: _AttentionPlan, layer_cache: torch.Tensor, out: torch.Tensor | None
    ) -> torch.Tensor:
        inputs = batch.decode
        assert inputs is not None
        k_cache, v_cache = layer_cache.unbind()
        return paged_decode(
            q, k_cache, v_cache, inputs.block_tables, inputs.seq_lens, self._scale, out=out, plan=plan.decode
        )

    def _prefill(
        self, q: torch.Tensor, batch: Batch, plan: _AttentionPlan, layer_cache: torch.Tensor, out: torch.Tensor | None
    ) -> torch.Tensor:
        inputs = batch.prefill
        assert inputs is not None
        k_cache, v_cache = layer_cache.unbind()
        return paged_prefill(
            q,
            k_cache,
            v_cache,
            inputs.block_tables,
            inputs.seq_lens,
            inputs.query_start,
            inputs.max_query_len,
            self._scale,
            out=out,
            plan=plan.prefill,
        )


def _compile_few_rows(
    spec: ModelSpec, weights: Weights, rope: torch.Tensor
) -> Callable[[Batch, torch.Tensor], torch.Tensor] | None:
    """The forward pass of up to FEW_ROWS decodes, where the layers are packed for it."""
    if weights.packed_layers is None:
        return None
    from octavo_kernels.decode_layers.cpu import compile_decode_layers

    decode_layers = compile_decode_layers(
        PackedDecoder(weights.packed_layers, weights.norm, rope, spec.num_heads, spec.rms_norm_eps)
    )

    def forward(batch: Batch, kv_cache: torch.Tensor) -> torch.Tensor:
        inputs = batch.decode
        assert inputs is not None
        residual = embedding(batch.token_ids, weights.embedding).float()
        return decode_layers(residual, batch.positions, batch.slots, inputs.block_tables, inputs.seq_lens, kv_cache)

    return forward


def _plan_attention(batch: Batch, k_cache: torch.Tensor, q_heads: int) -> _AttentionPlan:
    decode, prefill = batch.decode, batch.prefill
    return _AttentionPlan(
        None if decode is None else plan_decode(decode.block_tables, decode.seq_lens, k_cache, q_heads),
        None
        if prefill is None
        else plan_prefill(
            prefill.block_tables, prefill.seq_lens, prefill.query_start, k_cache, q_heads, prefill.lengths
        ),
    )
