"""The forward pass of a BERT-like encoder (Devlin et al. 2019) over whole texts, packed one behind another. It keeps
nothing from step to step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn.functional import embedding

from octavo_kernels import paged_prefill
from octavo_kernels.paged_prefill import plan_prefill
from octavo_runtime.layers.batch import PrefillInputs
from octavo_runtime.layers.linear import Linear
from octavo_runtime.layers.mlp import MLP
from octavo_runtime.layers.norm import LayerNorm
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


@dataclass(frozen=True)
class EncoderEmbedding:
    """Words, positions and types together. words: [vocab, hidden]; positions, types: [rows, hidden]; a text's first
    token is at row `first_position`."""

    words: Tensor
    positions: Tensor
    types: Tensor
    norm: LayerNorm
    first_position: int

    @property
    def num_bytes(self) -> int:
        return self.words.nbytes + self.positions.nbytes + self.types.nbytes + self.norm.num_bytes

    def __call__(self, texts: Texts) -> Tensor:
        """[tokens, hidden]."""
        looked_up = embedding(texts.token_ids, self.words) + embedding(texts.types, self.types)
        return self.norm(looked_up, embedding(texts.positions + self.first_position, self.positions))


@dataclass(frozen=True)
class EncoderLayer:
    """One block, whose halves have their norm behind them."""

    qkv: Linear  # hidden -> 3 * heads * head_dim
    output: Linear
    attention_norm: LayerNorm
    mlp: MLP
    mlp_norm: LayerNorm
    num_heads: int
    head_dim: int

    @property
    def num_bytes(self) -> int:
        return sum(each.num_bytes for each in (self.qkv, self.output, self.attention_norm, self.mlp, self.mlp_norm))

    def __call__(
        self, hidden: Tensor, prefill: PrefillInputs, plan: "PrefillPlan | HopperPrefillPlan | None"
    ) -> Tensor:
        """[tokens, hidden] of the same, which is overwritten."""
        q, k, v = self.qkv(hidden).view(len(hidden), 3, self.num_heads, self.head_dim).unbind(1)
        attended = paged_prefill(
            q,
            k.contiguous().unsqueeze(1),
            v.contiguous().unsqueeze(1),
            prefill.block_tables[0],
            prefill.seq_lens,
            prefill.query_start,
            prefill.max_query_len,
            self.head_dim**-0.5,
            plan=plan,
            causal=False,
        )
        hidden = self.attention_norm(hidden, self.output(attended.flatten(1)))
        return self.mlp_norm(hidden, self.mlp(hidden))


@dataclass(frozen=True)
class Encoder:
    """All layers of a model, computing in one dtype on one device, and what makes vectors or scores of what they bring
    of a text."""

    spec: ModelSpec
    embedding: EncoderEmbedding
    layers: Sequence[EncoderLayer]
    text_head: TextHead
    task: TextTask

    @property
    def num_bytes(self) -> int:
        """Bytes of memory that the weights take."""
        layers = sum(layer.num_bytes for layer in self.layers)
        return self.embedding.num_bytes + layers + self.text_head.num_bytes

    def forward(self, texts: Texts) -> Tensor:
        """The last hidden states [tokens, hidden]."""
        hidden, prefill = self.embedding(texts), texts.prefill
        plan = plan_prefill(
            prefill.block_tables[0],
            prefill.seq_lens,
            prefill.query_start,
            hidden.new_empty(0, 1, self.spec.num_heads, self.spec.head_dim),  # as keys lie in each layer
            self.spec.num_heads,
            prefill.lengths,
            causal=False,
        )
        for layer in self.layers:
            hidden = layer(hidden, prefill, plan)
        return hidden
