"""Texts on their way through a model of which one layer is in memory at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from octavo_runtime.layers.attention import Attention
from octavo_runtime.layers.batch import Batch, PrefillInputs
from octavo_runtime.layers.mlp import MLP
from octavo_runtime.models.decoder import Decoder, DecoderLayer, Stack
from octavo_runtime.models.loading.stored_tensors import ReadTensor, StoredTensor
from octavo_runtime.models.loading.weights import EMBEDDING, build_decoder, layer_projections
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.tensor_names import layer_prefix
from octavo_runtime.quantization.formats import stored_form
from octavo_runtime.quantization.scheme import Scheme
from octavo_runtime.quantization.stored_parts import Weight
from octavo_runtime.quantizer.inputs import Inputs, WatchedLinear, input_sum

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
        batch = _alone(len(stream.hidden), device)
        plans = decoder.plan_attention(batch, cache)
        q = layer.before_attention(stream.hidden, stream.added, batch.positions, batch.slots.unbind(), cache[0])
        attended = layer.attention.attend(q, batch, plans, cache[0])
        stream.added = layer.after_attention(attended, stream.hidden)


def inputs_of_layer(decoder: Decoder, streams: Sequence[Stream]) -> list[Inputs]:
    """What the streams bring each of the layer_projections of a decoder's one layer; the streams stay."""
    [layer] = decoder.stack.layers
    attention, mlp = layer.attention, layer.mlp
    assert isinstance(attention, Attention)
    assert isinstance(mlp, MLP)
    device = streams[0].hidden.device
    sums = [input_sum(part.columns, device) for part in layer_projections(decoder.spec, 0)]
    qkv, output, gate_up, down = sums
    watched: DecoderLayer = replace(
        layer,
        attention=replace(
            attention, qkv=WatchedLinear(attention.qkv, qkv), output=WatchedLinear(attention.output, output)
        ),
        mlp=replace(mlp, gate_up=WatchedLinear(mlp.gate_up, gate_up), down=WatchedLinear(mlp.down, down)),
    )
    seen = replace(decoder, stack=Stack([watched], decoder.stack.norm))
    for stream in streams:
        advance(seen, [stream.copy()])
    return [each.means() for each in sums]


def scores(ends: Decoder, stream: Stream) -> Tensor:
    """Logarithms of the next tokens' probabilities [tokens, vocab], of a stream behind the last layer."""
    behind = stream.copy()
    return ends.logits(ends.stack.norm(behind.hidden, behind.added)).log_softmax(-1)


def _alone(tokens: int, device: torch.device) -> Batch:
    """A step that computes all tokens of one sequence."""
    places = torch.arange(tokens, device=device)
    blocks = torch.arange(-(-tokens // _BLOCK), dtype=torch.int32, device=device)
    prefill = PrefillInputs(
        [blocks.unsqueeze(0)],
        torch.tensor([tokens], dtype=torch.int32, device=device),
        torch.tensor([0, tokens], dtype=torch.int32, device=device),
        tokens,
        np.array([[tokens, tokens]]),
    )
    return Batch(places, places, places.unsqueeze(0), 0, None, prefill, np.array([0]), np.array([tokens - 1]))


def _read(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...], scheme: Scheme | None) -> StoredTensor:
    module = name.removesuffix("weight")
    form = None if scheme is None else stored_form(scheme)
    if form is None or not any(module + marker in tensors for marker in form.markers):
        return tensors[name]
    return form.read(Weight(*shape), lambda part: module + part in tensors, lambda part: tensors[module + part])
