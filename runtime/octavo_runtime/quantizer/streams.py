"""Texts on their way through a model of which one layer is in memory at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from octavo_runtime.layers.attention import Attention
from octavo_runtime.layers.batch import Batch, PrefillInputs
from octavo_runtime.layers.mlp import MLP
from octavo_runtime.layers.norm import Norm
from octavo_runtime.layers.residual import computed
from octavo_runtime.models.decoder import Decoder, DecoderLayer, Stack
from octavo_runtime.models.layer_groups import group_windows, layers_of_a_block
from octavo_runtime.models.loading.stored_tensors import ReadTensor, StoredTensor
from octavo_runtime.models.loading.tensor_shapes import EMBEDDING
from octavo_runtime.models.loading.weights import build_decoder
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.tensor_names import layer_prefix
from octavo_runtime.quantization.formats import stored_form
from octavo_runtime.quantization.scheme import Scheme
from octavo_runtime.quantization.stored_parts import Weight
from octavo_runtime.quantizer.feed_forward import LayerInputs, Routed, attention_projections, feed_forwards
from octavo_runtime.quantizer.inputs import WatchedLinear, input_sum, watched_mlp

_BLOCK = 16  # tokens of a block of the KV cache


@dataclass
class Stream:
    """A text's residual stream [tokens, hidden] before a layer, and what is still to be added to it."""

    hidden: Tensor
    added: Tensor | None = None

    def copy(self) -> "Stream":
        """One that layers may overwrite."""
        return Stream(self.hidden.clone(), None if self.added is None else self.added.clone())


def build_ends(spec: ModelSpec, read: ReadTensor, device: torch.device) -> Decoder:
    """The embedding, the last norm and the output head, in float32."""
    return build_decoder(replace(spec, num_layers=0), read, device, torch.float32)


def build_layer(spec: ModelSpec, index: int, tensors: Mapping[str, Tensor], device: torch.device) -> Decoder:
    """A decoder of one layer of a model, in float32. tensors: the layer's, by their names in the model; parts of
    projections in fewer bits where spec.quantization says how."""
    shared = {index} & spec.windowed_layers, {index} & spec.unrotated_layers
    has = spec.experts
    alone = replace(
        spec,
        num_layers=1,
        experts=replace(has, layers=frozenset({0})) if has is not None and index in has.layers else None,
        vocab_size=1,
        tie_embeddings=True,
        head_bias=False,
        position_offset=None,
        windowed_layers=frozenset({0} if shared[0] else ()),
        unrotated_layers=frozenset({0} if shared[1] else ()),
        quantization=None,
    )
    first, own = layer_prefix(0), layer_prefix(index)

    def read(name: str, shape: tuple[int, ...]) -> StoredTensor:
        if not name.startswith(first):  # the ends, which nobody asks
            return torch.zeros(shape) if name == EMBEDDING else torch.ones(shape)
        return _read(tensors, own + name.removeprefix(first), shape, spec.quantization)

    return build_decoder(alone, read, device, torch.float32)


def embed(ends: Decoder, tokens: Sequence[int], device: torch.device) -> Stream:
    """The stream of a text before the first layer."""
    ids = torch.tensor(tokens, device=device)
    return Stream(ends.embedding(ids, torch.arange(len(tokens), device=device)).float())


def advance(decoder: Decoder, streams: Sequence[Stream]) -> None:
    """Takes the streams through a decoder's one layer."""
    longest = max(len(stream.hidden) for stream in streams)
    decoder.reach(longest)
    [layer], device = decoder.stack.layers, streams[0].hidden.device
    planes, heads, width = decoder.spec.cached_token
    cache = torch.zeros(1, planes, -(-longest // _BLOCK), _BLOCK, heads, width, device=device)
    for stream in streams:
        batch = _alone(torch.arange(len(stream.hidden), device=device))
        plans = decoder.plan_attention(batch, cache)
        q = layer.before_attention(stream.hidden, stream.added, batch.positions, batch.slots.unbind(), cache[0])
        attended = layer.attention.attend(q, batch, plans, cache[0])
        stream.added = computed(layer.after_attention(attended, stream.hidden))


@dataclass(frozen=True)
class WatchedNorm:
    """A norm that keeps what it brings."""

    norm: Norm
    brought: list[Tensor]

    @property
    def num_bytes(self) -> int:
        return self.norm.num_bytes

    def __call__(self, stream: Tensor, added: Tensor | None = None) -> Tensor:
        """See Norm."""
        hidden = self.norm(stream, added)
        self.brought.append(hidden.clone())
        return hidden


def inputs_of_layer(decoder: Decoder, streams: Sequence[Stream]) -> LayerInputs:
    """What the streams bring the projections of a decoder's one layer; the streams stay."""
    [layer], spec, device = decoder.stack.layers, decoder.spec, streams[0].hidden.device
    attention, mlp = layer.attention, layer.mlp
    assert isinstance(attention, Attention)
    qkv, output = (input_sum(part.columns, device) for part in attention_projections(spec, 0))
    own = replace(attention, qkv=WatchedLinear(attention.qkv, qkv), output=WatchedLinear(attention.output, output))
    watched: DecoderLayer = replace(layer, attention=own)
    first, brought = feed_forwards(spec, 0)[0], list[Tensor]()
    always = input_sum(first.gate_up.columns, device), input_sum(first.down.columns, device)
    if isinstance(mlp, MLP):
        watched = replace(watched, mlp=watched_mlp(mlp, *always))
    else:
        shared = None if mlp.shared is None else watched_mlp(mlp.shared, *always)
        watched = replace(watched, mlp=replace(mlp, shared=shared), mlp_norm=WatchedNorm(layer.mlp_norm, brought))
    seen = replace(decoder, stack=Stack([watched], decoder.stack.norm))
    for stream in streams:
        advance(seen, [stream.copy()])
    routed = None
    if not isinstance(mlp, MLP):
        hidden = torch.cat(brought)
        routed = Routed(hidden, torch.cat([mlp.router(each)[0] for each in brought]))
    return LayerInputs(
        (qkv.means(), output.means()),
        (always[0].means(), always[1].means()) if first.expert is None else None,
        routed,
    )


def scores(ends: Decoder, stream: Stream) -> Tensor:
    """Logarithms of the next tokens' probabilities [tokens, vocab], of a stream behind the last layer."""
    behind = stream.copy()
    return ends.logits(ends.stack.norm(behind.hidden, behind.added)).log_softmax(-1)


def scores_of_text(decoder: Decoder, text: Sequence[int]) -> Tensor:
    """The same of a text that goes through a whole decoder."""
    spec, device = decoder.spec, decoder.embedding.weight.device
    decoder.reach(len(text))
    (planes, heads, width), groups = spec.cached_token, len(group_windows(spec))
    blocks = groups * -(-len(text) // _BLOCK)
    cache = torch.zeros(layers_of_a_block(spec), planes, blocks, _BLOCK, heads, width, device=device)
    hidden = decoder.forward(_alone(torch.tensor(text, device=device), groups), cache)
    return decoder.logits(hidden).log_softmax(-1)


def _alone(ids: Tensor, groups: int = 1) -> Batch:
    """A step that computes all tokens [tokens] of one sequence. groups: of layers, each with blocks of its own."""
    tokens, device = len(ids), ids.device
    blocks = -(-tokens // _BLOCK)
    places = torch.arange(tokens, device=device)
    firsts = torch.arange(groups, device=device).unsqueeze(1) * blocks
    tables = (firsts + torch.arange(blocks, device=device)).int().unsqueeze(1)
    prefill = PrefillInputs(
        tables.unbind(),
        torch.tensor([tokens], dtype=torch.int32, device=device),
        torch.tensor([0, tokens], dtype=torch.int32, device=device),
        tokens,
        np.array([[tokens, tokens]]),
    )
    slots = firsts * _BLOCK + places
    return Batch(ids, places, slots, 0, None, prefill, np.array([0]), np.array([tokens - 1]))


def _read(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...], scheme: Scheme | None) -> StoredTensor:
    module = name.removesuffix("weight")
    form = None if scheme is None else stored_form(scheme)
    if form is None or not any(module + marker in tensors for marker in form.markers):
        return tensors[name]
    return form.read(Weight(*shape), lambda part: module + part in tensors, lambda part: tensors[module + part])
