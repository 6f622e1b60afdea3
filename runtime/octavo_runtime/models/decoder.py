"""The forward pass of a decoder described by a ModelSpec, over one packed batch and a paged KV cache."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from octavo_kernels.decode_layers import PackedDecoder, PackedLayer
from octavo_runtime.layers.attention import Attention, plan_attention
from octavo_runtime.layers.batch import Batch
from octavo_runtime.layers.embedding import Embedding
from octavo_runtime.layers.linear import FEW_ROWS, DenseLinear, Linear
from octavo_runtime.layers.mlp import MLP
from octavo_runtime.layers.norm import RMSNorm
from octavo_runtime.layers.rotary import RotaryEmbedding
from octavo_runtime.models.spec import ModelSpec


@dataclass(frozen=True)
class DecoderLayer:
    """One pre-norm block."""

    attention_norm: RMSNorm
    attention: Attention
    mlp_norm: RMSNorm
    mlp: MLP

    @property
    def num_bytes(self) -> int:
        return sum(part.num_bytes for part in (self.attention_norm, self.attention, self.mlp_norm, self.mlp))


@dataclass(frozen=True)
class Decoder:
    """All layers of a model, computing in one dtype on one device."""

    spec: ModelSpec
    embedding: Embedding
    layers: tuple[DecoderLayer, ...]
    norm: RMSNorm
    head: Linear  # hidden -> vocab
    rotary: RotaryEmbedding
    packed_layers: tuple[PackedLayer, ...] | None = None  # the layers once more, where they are kept for few rows

    @property
    def num_bytes(self) -> int:
        """Bytes of memory that the weights take; a head that is the embedding itself counts once."""
        shared = isinstance(self.head, DenseLinear) and self.head.weight is self.embedding.weight
        head = 0 if shared else self.head.num_bytes
        layers = sum(layer.num_bytes for layer in self.layers) + sum(layer.nbytes for layer in self.packed_layers or ())
        return self.embedding.num_bytes + self.norm.num_bytes + head + layers

    def forward(self, batch: Batch, kv_cache: Tensor) -> Tensor:
        """Hidden states [tokens, hidden] after the last norm, in the weights' dtype or float32.

        kv_cache: [layer, 2, block, slot, kv_head, head_dim]; the keys and values of the batch's tokens are written to
        it."""
        hidden, residual = self.embedding(batch.token_ids), None
        if self._few_rows is not None and batch.prefill is None and batch.num_decodes <= FEW_ROWS:
            return self._few_rows(hidden, batch, kv_cache)
        plan = plan_attention(batch, kv_cache, self.spec.num_heads)
        for layer, layer_cache in zip(self.layers, kv_cache.unbind(), strict=True):
            hidden, residual = layer.attention_norm(hidden, residual)
            hidden = self._branch(layer.attention(hidden, batch, plan, layer_cache))
            hidden, residual = layer.mlp_norm(hidden, residual)
            hidden = self._branch(layer.mlp(hidden))
        return self.norm(hidden, residual)[0]

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token scores [rows, vocab] in float32 for rows of hidden states."""
        return self.scores(hidden).float()

    def scores(self, hidden: Tensor) -> Tensor:
        """The same in the type in which they are computed."""
        scores, divisor = self.head(hidden), self.spec.logits_divisor
        return scores if divisor == 1.0 else scores / divisor

    def _branch(self, hidden: Tensor) -> Tensor:
        """What attention or MLP adds to the residual stream."""
        multiplier = self.spec.residual_multiplier
        return hidden if multiplier == 1.0 else hidden * multiplier

    @cached_property
    def _few_rows(self) -> Callable[[Tensor, Batch, Tensor], Tensor] | None:
        """All layers in one call, where they are packed for it: up to FEW_ROWS decodes, from embedded tokens."""
        if self.packed_layers is None:
            return None
        from octavo_kernels.decode_layers.cpu import compile_decode_layers

        decode_layers = compile_decode_layers(
            PackedDecoder(
                self.packed_layers, self.norm.weight, self.rotary.table, self.spec.num_heads, self.spec.rms_norm_eps
            )
        )

        def run(embedded: Tensor, batch: Batch, kv_cache: Tensor) -> Tensor:
            inputs = batch.decode
            assert inputs is not None
            return decode_layers(embedded, batch.positions, batch.slots, inputs.block_tables, inputs.seq_lens, kv_cache)

        return run
