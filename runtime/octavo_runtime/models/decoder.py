"""The forward pass of a decoder described by a ModelSpec, over one packed batch and a paged KV cache."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from octavo_runtime.layers.attention import Attention, AttentionPlan, AttentionPlans, plan_attention
from octavo_runtime.layers.batch import Batch
from octavo_runtime.layers.embedding import Embedding
from octavo_runtime.layers.experts import Experts
from octavo_runtime.layers.latent_attention import LatentAttention
from octavo_runtime.layers.linear import FEW_ROWS, DenseLinear, Linear
from octavo_runtime.layers.lm_head import Head
from octavo_runtime.layers.mlp import MLP
from octavo_runtime.layers.norm import Norm
from octavo_runtime.layers.parallel import GatheredHead
from octavo_runtime.layers.pipeline import Received
from octavo_runtime.layers.residual import Addend, Product, computed, normed, normed_for
from octavo_runtime.models.layer_groups import group_windows
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.text_head import TextHead
from octavo_runtime.protocol.text_task import TextTask

if TYPE_CHECKING:
    from octavo_kernels.native.recording import Recordings


@dataclass(frozen=True)
class DecoderLayer:
    """One block. Each half reads the residual stream through a norm, or what it adds has one, or both (Ding et al.
    2021)."""

    attention_norm: Norm
    attention: Attention | LatentAttention
    mlp_norm: Norm
    mlp: MLP | Experts
    attention_post_norm: Norm | None = None
    mlp_post_norm: Norm | None = None
    is_parallel: bool = False  # the MLP reads what attention reads (Wang and Komatsuzaki 2021); mlp_norm is its norm

    @property
    def num_bytes(self) -> int:
        mlp_norm = None if self.mlp_norm is self.attention_norm else self.mlp_norm
        norms = self.attention_norm, self.attention_post_norm, mlp_norm, self.mlp_post_norm
        return self.attention.num_bytes + self.mlp.num_bytes + sum(norm.num_bytes for norm in norms if norm is not None)

    @property
    def linears(self) -> tuple[Linear, ...]:
        """What a layer of an Attention and an MLP multiplies by; of others nothing."""
        if not isinstance(self.attention, Attention) or not isinstance(self.mlp, MLP):
            return ()
        return self.attention.qkv, self.attention.output, self.mlp.gate_up, self.mlp.down

    def before_attention(
        self,
        stream: Tensor,
        added: Addend | None,
        positions: Tensor,
        slots: Sequence[Tensor],
        kv_cache: Tensor,
        room: Tensor | None = None,
    ) -> Tensor:
        """The queries of the residual stream [tokens, hidden], once `added` is added to it. slots: of each
        group of layers. The rest: see Attention.project."""
        attention, own = self.attention, slots[self.attention.place.group]
        if isinstance(attention, LatentAttention):
            return attention.project(normed(stream, added, self.attention_norm), positions, own, kv_cache, room)
        hidden = normed_for(attention.qkv, stream, added, self.attention_norm)
        return attention.project(hidden, positions, own, kv_cache, room)

    def after_attention(self, attended: Tensor, stream: Tensor) -> Addend:
        """What the MLP adds to the stream [tokens, hidden], which is left to the next norm; what attention adds is
        added. attended: [tokens, heads, attended_dim]."""
        mlp, added = self.mlp, _behind(Product(self.attention.output, attended.flatten(1)), self.attention_post_norm)
        if self.is_parallel:
            return computed(added) + computed(_behind(mlp(self.mlp_norm(stream)), self.mlp_post_norm))
        if isinstance(mlp, MLP) and not mlp.rounds(stream):
            inner = mlp.inner(normed_for(mlp.gate_up, stream, added, self.mlp_norm))
            return _behind(Product(mlp.down, inner), self.mlp_post_norm)
        return _behind(mlp(normed(stream, added, self.mlp_norm)), self.mlp_post_norm)


def _whole(tensor: Tensor) -> Tensor:
    """What a tensor is rows of."""
    return tensor if tensor._base is None else tensor._base


def _behind(added: Addend, norm: Norm | None) -> Addend:
    """What is added, with the norm behind it where there is one."""
    return added if norm is None else norm(computed(added))


class Ending(NamedTuple):
    """What the last layer's attention is told where only some tokens' hidden states are wanted."""

    tokens: Tensor  # [wanted] int64
    batch: Batch  # of them alone
    plans: AttentionPlans


@dataclass(frozen=True)
class Stack:
    """All layers, and the norm behind the last."""

    layers: Sequence[DecoderLayer]
    norm: Norm

    @property
    def num_bytes(self) -> int:
        return sum(layer.num_bytes for layer in self.layers) + self.norm.num_bytes

    def caches(self, kv_cache: Tensor) -> list[Tensor]:
        """Where each layer's keys and values are. kv_cache: see Decoder.forward."""
        parts = kv_cache.unbind()
        return [parts[layer.attention.place.layer] for layer in self.layers]

    def __call__(
        self, stream: Tensor, batch: Batch, plans: AttentionPlans, kv_cache: Tensor, ending: Ending | None = None
    ) -> Tensor:
        """Hidden states of the residual stream [tokens, hidden], which is overwritten. kv_cache: see Decoder.forward.
        ending: where not those of all tokens are wanted."""
        slots = batch.slots.unbind()
        added: Addend | None = None
        for layer, layer_cache in zip(self.layers, self.caches(kv_cache), strict=True):
            q = layer.before_attention(stream, added, batch.positions, slots, layer_cache)
            added = None  # What its product multiplies is large.
            if ending is not None and layer is self.layers[-1]:
                return self.end(q, stream, ending, layer_cache)
            attended = layer.attention.attend(q, batch, plans, layer_cache)
            added = layer.after_attention(attended, stream)
        return normed(stream, added, self.norm)

    def end(self, q: Tensor, stream: Tensor, ending: Ending, kv_cache: Tensor) -> Tensor:
        """Hidden states [wanted, hidden] behind the queries [tokens, heads, head_dim] of the last layer, all of whose
        keys and values are in the cache: no other token needs more of this layer. kv_cache: the layer's."""
        layer, stream = self.layers[-1], stream[ending.tokens]
        if len(stream) == 0:
            return self.norm(stream)
        attended = layer.attention.attend(q[ending.tokens], ending.batch, ending.plans, kv_cache)
        return normed(stream, layer.after_attention(attended, stream), self.norm)


@dataclass(frozen=True)
class Decoder:
    """All layers of a model, or those of a stage of a pipeline, computing in one dtype on one device."""

    spec: ModelSpec
    embedding: Embedding | Received
    stack: Stack
    head: Head | None  # hidden -> vocab; None: another stage has it
    few_rows: Stack | None = None  # the layers once more, where their weights are kept packed
    text_head: TextHead = field(default_factory=TextHead)  # of what a text is pooled to
    task: TextTask = field(default_factory=TextTask)

    @property
    def num_bytes(self) -> int:
        """Bytes of memory that the weights take; a head that is the embedding itself counts once."""
        head = self.head.words if isinstance(self.head, GatheredHead) else self.head
        twice = 0
        if isinstance(head, DenseLinear) and _whole(head.weight) is _whole(self.embedding.weight):
            twice = head.weight.nbytes
        if self.few_rows is not None:
            shared = {id(linear) for layer in self.stack.layers for linear in layer.linears}
            copies = (linear for layer in self.few_rows.layers for linear in layer.linears)
            twice += sum(linear.num_bytes for linear in copies if id(linear) in shared)
        parts = self.embedding, head, self.stack, self.few_rows
        return self.text_head.num_bytes + sum(part.num_bytes for part in parts if part is not None) - twice

    def reach(self, positions: int) -> None:
        """See RotaryEmbedding.reach."""
        for rotary in {layer.attention.rotary for layer in self.stack.layers if layer.attention.rotary}:
            rotary.reach(positions)

    def forward(self, batch: Batch, kv_cache: Tensor) -> Tensor:
        """Hidden states [tokens, hidden] after the last norm, in the weights' dtype or float32, of the tokens that draw
        alone where the batch says so. Where another stage has that norm, it is sent the residual stream, which is
        returned.

        kv_cache: [layer of a group, 2, block, slot, kv_head, head_dim], or of latent attention [layer, 1, block, slot,
        1, rank + rope]; the keys and values, or the latents, of the batch's tokens are written to it."""
        stream = self.embedding(batch.token_ids, batch.positions)
        plans = self.plan_attention(batch, kv_cache)
        if self.few_rows is not None and batch.prefill is None and batch.num_decodes <= FEW_ROWS:
            return self._replay(self.few_rows, stream, batch, plans, kv_cache)
        return self.stack(stream, batch, plans, kv_cache, self.plan_ending(batch, kv_cache))

    def plan_ending(self, batch: Batch, kv_cache: Tensor) -> Ending | None:
        """What the last layer computes of a batch of which only some tokens' hidden states are wanted."""
        if batch.drawing is None:
            return None
        alone = batch.drawing_alone(batch.drawing)
        return Ending(batch.drawing.tokens, alone, self.plan_attention(alone, kv_cache) if alone.num_decodes else ())

    def plan_attention(self, batch: Batch, kv_cache: Tensor) -> AttentionPlans:
        """What the layers' attention shares in a step. kv_cache: see `forward`."""
        attention, softcap = self.stack.layers[0].attention, self.spec.attention_softcap
        if isinstance(attention, LatentAttention):
            return attention.plan(batch, kv_cache)
        return plan_attention(
            batch, kv_cache, self.spec.num_heads, self._windows, softcap, attention.sinks, attention.slopes
        )

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token scores [rows, vocab] in float32 for rows of hidden states."""
        return self.scores(hidden).float()

    def scores(self, hidden: Tensor) -> Tensor:
        """The same in the type in which they are computed."""
        assert self.head is not None, "the stage with the head scores"
        scores, divisor, softcap = self.head(hidden), self.spec.logits_divisor, self.spec.logits_softcap
        scores = scores if divisor == 1.0 else scores / divisor
        return scores if softcap is None else scores.div_(softcap).tanh_().mul_(softcap)

    def _replay(self, stack: Stack, stream: Tensor, batch: Batch, plans: AttentionPlans, kv_cache: Tensor) -> Tensor:
        """What the stack computes of a batch of decodes, in one call: to call the operations one by one would take as
        long as what they compute."""
        from octavo_kernels.paged_decode.cpu import DecodePlan

        attentions = [plan.decode for plan in plans if isinstance(plan.decode, DecodePlan)]
        all_words = torch.stack([attention.words for attention in attentions])

        def compute(stream: Tensor, positions: Tensor, slots: Tensor, words: Tensor, kv_cache: Tensor) -> Tensor:
            # What else they hold is of the step at hand, which no loop may name.
            step = replace(batch, positions=positions, slots=slots)
            recorded = [
                AttentionPlan(replace(attention, words=own), None)
                for attention, own in zip(attentions, words.unbind(), strict=True)
            ]
            return stack(stream, step, recorded, kv_cache)

        return self._recordings.run(compute, stream, batch.positions, batch.slots, all_words, kv_cache)

    @cached_property
    def _windows(self) -> tuple[int | None, ...]:
        return group_windows(self.spec)

    @cached_property
    def _recordings(self) -> "Recordings":
        from octavo_kernels.native.recording import Recordings

        return Recordings()
