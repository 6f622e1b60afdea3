"""The forward pass of an encoder (Devlin et al. 2019) over whole texts, packed one behind another. It keeps nothing
from step to step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import embedding

from octavo_kernels import paged_prefill, rotary_write_kv
from octavo_kernels.paged_prefill import plan_prefill
from octavo_runtime.layers.batch import PrefillInputs
from octavo_runtime.layers.embedding import stream_type
from octavo_runtime.layers.linear import Linear
from octavo_runtime.layers.mlp import MLP
from octavo_runtime.layers.norm import LayerNorm, Norm
from octavo_runtime.layers.rotary import RotaryEmbedding
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.text_head import TextHead
from octavo_runtime.protocol.text_task import TextTask

if TYPE_CHECKING:
    from octavo_kernels.paged_prefill.cpu import PrefillPlan
    from octavo_kernels.paged_prefill.hopper import HopperPrefillPlan


@dataclass(frozen=True)
class Texts:
    """One step's tokens. token_ids, positions, types: [tokens] int64; positions from 0 on in each text. prefill: the
    texts; its block tables name tokens, for each token is a block."""

    token_ids: Tensor
    positions: Tensor
    types: Tensor
    prefill: PrefillInputs

    @cached_property
    def slots(self) -> Tensor:
        """[tokens] int64, where each token's key and value lie in every layer."""
        return torch.arange(len(self.token_ids), device=self.token_ids.device)


Plans = Mapping[int | None, "PrefillPlan | HopperPrefillPlan | None"]
"""What a step's layers share, by their window."""


@dataclass(frozen=True)
class EncoderEmbedding:
    """Words together with positions and types, where these are learned. words: [vocab, hidden]; positions, types:
    [rows, hidden]; a text's first token is at row `first_position`."""

    words: Tensor
    positions: Tensor | None
    types: Tensor | None
    norm: LayerNorm
    first_position: int

    @property
    def num_bytes(self) -> int:
        tables = self.words, self.positions, self.types
        return sum(table.nbytes for table in tables if table is not None) + self.norm.num_bytes

    def __call__(self, texts: Texts) -> Tensor:
        """[tokens, hidden], the beginning of the residual stream."""
        stream = embedding(texts.token_ids, self.words).to(stream_type(self.words))
        if self.types is not None:
            stream += embedding(texts.types, self.types)
        if self.positions is not None:
            stream += embedding(texts.positions + self.first_position, self.positions)
        return self.norm(stream).to(stream.dtype)


@dataclass(frozen=True)
class EncoderAttention:
    """The attention of one layer: each token to all of its text, or in a window to itself and as many before it as
    behind it. rotary: None where positions are learned. window: see paged_prefill."""

    qkv: Linear  # hidden -> 3 * heads * head_dim
    output: Linear
    rotary: RotaryEmbedding | None
    num_heads: int
    head_dim: int
    window: int | None

    @property
    def num_bytes(self) -> int:
        return self.qkv.num_bytes + self.output.num_bytes

    def __call__(self, hidden: Tensor, texts: Texts, plans: Plans) -> Tensor:
        """[tokens, hidden]."""
        tokens, prefill = len(hidden), texts.prefill
        q, k, v = self.qkv(hidden).view(tokens, 3, self.num_heads, self.head_dim).unbind(1)
        if self.rotary is None:
            keys, values = k.contiguous().unsqueeze(1), v.contiguous().unsqueeze(1)
        else:
            keys, values = (k.new_empty(tokens, 1, self.num_heads, self.head_dim) for _ in range(2))
            rotary_write_kv(q, k, v, texts.positions, self.rotary.table, keys, values, texts.slots)
        attended = paged_prefill(
            q,
            keys,
            values,
            prefill.block_tables[0],
            prefill.seq_lens,
            prefill.query_start,
            prefill.max_query_len,
            self.head_dim**-0.5,
            plan=plans[self.window],
            window=self.window,
            causal=False,
        )
        return self.output(attended.flatten(1))


@dataclass(frozen=True)
class EncoderLayer:
    """One block, whose halves read the residual stream through a norm."""

    attention_norm: Norm
    attention: EncoderAttention
    mlp_norm: Norm
    mlp: MLP

    @property
    def num_bytes(self) -> int:
        return sum(part.num_bytes for part in (self.attention_norm, self.attention, self.mlp_norm, self.mlp))

    def __call__(self, stream: Tensor, added: Tensor | None, texts: Texts, plans: Plans) -> Tensor:
        """What the MLP adds to the stream [tokens, hidden], which is left to the next norm; what attention adds, and
        `added` of the layer before, is added to it."""
        attended = self.attention(self.attention_norm(stream, added), texts, plans)
        return self.mlp(self.mlp_norm(stream, attended))


@dataclass(frozen=True)
class Encoder:
    """All layers of a model, computing in one dtype on one device, the norm behind the last, and what makes vectors or
    scores of what they bring of a text."""

    spec: ModelSpec
    embedding: EncoderEmbedding
    layers: Sequence[EncoderLayer]
    norm: Norm
    text_head: TextHead
    task: TextTask

    @property
    def num_bytes(self) -> int:
        """Bytes of memory that the weights take."""
        layers = sum(layer.num_bytes for layer in self.layers)
        return self.embedding.num_bytes + layers + self.norm.num_bytes + self.text_head.num_bytes

    def reach(self, positions: int) -> None:
        """Makes the tables of rotary embeddings for positions below `positions`."""
        for rotary in {layer.attention.rotary for layer in self.layers} - {None}:
            assert rotary is not None
            rotary.reach(positions)

    def forward(self, texts: Texts) -> Tensor:
        """The last hidden states [tokens, hidden]."""
        stream, added = self.embedding(texts), None
        plans = {window: self._plan(texts, window) for window in {layer.attention.window for layer in self.layers}}
        for layer in self.layers:
            added = layer(stream, added, texts, plans)
        return self.norm(stream, added)

    def _plan(self, texts: Texts, window: int | None) -> "PrefillPlan | HopperPrefillPlan | None":
        prefill = texts.prefill
        return plan_prefill(
            prefill.block_tables[0],
            prefill.seq_lens,
            prefill.query_start,
            self.embedding.words.new_empty(0, 1, self.spec.num_heads, self.spec.head_dim),  # as keys lie in each layer
            self.spec.num_heads,
            prefill.lengths,
            window,
            causal=False,
        )
