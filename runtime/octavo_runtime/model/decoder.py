"""The forward pass of a decoder described by a ModelSpec, over one packed batch and a paged KV cache."""

import torch
from torch.nn.functional import embedding, linear

from octavo_kernels import add_rms_norm, paged_decode, paged_prefill, rms_norm, rotary, silu_mul, write_kv
from octavo_runtime.executor.batch import Batch
from octavo_runtime.model.spec import ModelSpec
from octavo_runtime.model.weights import LayerWeights, Weights


class Decoder:
    """A Llama-shaped decoder: pre-norm, rotary grouped-query attention, gated MLP."""

    def __init__(self, spec: ModelSpec, weights: Weights, rope: torch.Tensor) -> None:
        self.spec = spec
        self.weights = weights
        self._rope = rope
        self._scale = spec.head_dim**-0.5

    def forward(self, batch: Batch, kv_cache: torch.Tensor) -> torch.Tensor:
        """Hidden states [tokens, hidden] after the last norm.

        kv_cache: [layer, 2, block, slot, kv_head, head_dim]; the keys and values of the batch's tokens are written to
        it."""
        eps = self.spec.rms_norm_eps
        residual = embedding(batch.token_ids, self.weights.embedding)
        if residual.device.type == "cpu":
            residual = residual.float()  # adding to the stream in 16 bits costs most of the accuracy: docs/adr/0001
        hidden = rms_norm(residual, self.weights.layers[0].input_norm, eps)
        for index, layer in enumerate(self.weights.layers):
            attended = self._attend(layer, hidden, batch, kv_cache[index, 0], kv_cache[index, 1])
            hidden, residual = add_rms_norm(attended, residual, layer.mlp_norm, eps)
            inner = silu_mul(linear(hidden, layer.gate_up, layer.gate_up_bias))
            is_last = index + 1 == len(self.weights.layers)
            next_norm = self.weights.norm if is_last else self.weights.layers[index + 1].input_norm
            hidden, residual = add_rms_norm(linear(inner, layer.down, layer.down_bias), residual, next_norm, eps)
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Next-token scores [rows, vocab] in float32 for rows of hidden states."""
        return linear(hidden, self.weights.head).float()

    def _attend(
        self, layer: LayerWeights, hidden: torch.Tensor, batch: Batch, k_cache: torch.Tensor, v_cache: torch.Tensor
    ) -> torch.Tensor:
        spec = self.spec
        qkv = linear(hidden, layer.qkv, layer.qkv_bias).view(-1, spec.num_heads + 2 * spec.num_kv_heads, spec.head_dim)
        q, k, v = qkv.split((spec.num_heads, spec.num_kv_heads, spec.num_kv_heads), dim=1)
        rotary(q, k, batch.positions, self._rope)
        write_kv(k, v, k_cache, v_cache, batch.slots)
        attended = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        decode, prefill, split = batch.decode, batch.prefill, batch.num_decodes
        if decode is not None:
            paged_decode(
                q[:split], k_cache, v_cache, decode.block_tables, decode.seq_lens, self._scale, out=attended[:split]
            )
        if prefill is not None:
            paged_prefill(
                q[split:],
                k_cache,
                v_cache,
                prefill.block_tables,
                prefill.seq_lens,
                prefill.query_start,
                prefill.max_query_len,
                self._scale,
                out=attended[split:],
            )
        return linear(attended.flatten(1), layer.output, layer.output_bias)
