"""From named tensors to a decoder: projections that run together are stored fused."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.nn.functional import gelu, silu

from octavo_kernels import gelu_mul, silu_mul
from octavo_runtime.layers.attention import Attention
from octavo_runtime.layers.embedding import Embedding
from octavo_runtime.layers.linear import Linear, build_linear, pack_linear, packs
from octavo_runtime.layers.lm_head import build_lm_head
from octavo_runtime.layers.mlp import MLP
from octavo_runtime.layers.norm import LayerNorm, Norm, RMSNorm, Unnormed
from octavo_runtime.layers.rotary import RotaryEmbedding
from octavo_runtime.models.decoder import Decoder, DecoderLayer, Stack
from octavo_runtime.models.spec import Activation, ModelSpec
from octavo_runtime.quantization.quantized_matrix import QuantizedMatrix, concatenate

_EMBEDDING, _NORM, _HEAD = "model.embed_tokens.weight", "model.norm", "lm_head.weight"
_GATED: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {"silu": silu_mul, "gelu_tanh": gelu_mul}
_UNGATED: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": silu,
    "gelu_tanh": partial(gelu, approximate="tanh"),
}

StoredTensor = torch.Tensor | QuantizedMatrix
ReadTensor = Callable[[str, tuple[int, ...]], StoredTensor]


class _Fused(NamedTuple):
    """Projections of one input that run as one, their outputs side by side."""

    columns: int
    rows: dict[str, int]  # by the projection's name
    has_bias: bool


class _Norms(NamedTuple):
    """Those of a layer."""

    attention: Norm
    mlp: Norm
    attention_post: Norm | None
    mlp_post: Norm | None
    q: RMSNorm | None
    k: RMSNorm | None


class _Stored(NamedTuple):
    """A projection as its checkpoint has it."""

    weight: StoredTensor  # [out, in]
    bias: torch.Tensor | None  # [out]


def build_decoder(spec: ModelSpec, read: ReadTensor, device: torch.device, dtype: torch.dtype) -> Decoder:
    """Reads every tensor by its Hugging Face name, fuses and places it."""
    names, hidden = spec.tensors, spec.hidden_size

    def place(name: str, *shape: int) -> torch.Tensor:
        return _dense(read(name, shape)).to(device=device, dtype=dtype)

    def rms_norm(name: str, width: int) -> RMSNorm:
        return RMSNorm(place(f"{name}.weight", width), spec.rms_norm_eps, spec.residual_multiplier, spec.norm_offset)

    def norm(name: str) -> RMSNorm | LayerNorm:
        if spec.norm == "rms":
            return rms_norm(name, hidden)
        bias = place(f"{name}.bias", hidden) if spec.norm_bias else None
        return LayerNorm(place(f"{name}.weight", hidden), bias, spec.rms_norm_eps)

    def norms(at: str) -> _Norms:
        attention = norm(at + names.attention_norm) if names.attention_norm else Unnormed(dtype)
        mlp = norm(at + names.mlp_norm) if names.mlp_norm else Unnormed(dtype)
        q_width, k_width = spec.qk_norm_sizes
        return _Norms(
            attention,
            attention if spec.is_parallel else mlp,
            norm(at + names.attention_post_norm) if names.attention_post_norm else None,
            norm(at + names.mlp_post_norm) if names.mlp_post_norm else None,
            rms_norm(at + names.q_norm, q_width) if spec.qk_norm else None,
            rms_norm(at + names.k_norm, k_width) if spec.qk_norm else None,
        )

    def fuse(at: str, part: _Fused) -> _Stored:
        rows = part.rows.items()
        weight = _fuse([read(f"{at}{name}.weight", (count, part.columns)) for name, count in rows])
        biases = [place(f"{at}{name}.bias", count) for name, count in rows] if part.has_bias else None
        return _Stored(weight, torch.cat(biases) if biases else None)

    rotary = RotaryEmbedding(spec.rotated, spec.rope_theta, spec.rope_scaling, device)
    windowed_rotary = rotary
    if spec.windowed_rope_theta is not None:
        windowed_rotary = RotaryEmbedding(spec.rotated, spec.windowed_rope_theta, None, device)

    def rotary_of(index: int) -> RotaryEmbedding | None:
        if index in spec.unrotated_layers:
            return None
        return windowed_rotary if index in spec.windowed_layers else rotary

    def layer(index: int, projections: Sequence[Linear], norms: _Norms) -> DecoderLayer:
        qkv, output, gate_up, down = projections
        attention = Attention(
            qkv=qkv,
            output=output,
            rotary=rotary_of(index),
            num_heads=spec.num_heads,
            num_kv_heads=spec.num_kv_heads,
            head_dim=spec.head_dim,
            scale=spec.attention_scale or 1 / math.sqrt(spec.head_dim),
            q_norm=norms.q,
            k_norm=norms.k,
            window=spec.window_of(index),
            softcap=spec.attention_softcap,
        )
        activation = (_GATED if spec.is_gated else _UNGATED)[spec.activation]
        return DecoderLayer(
            norms.attention,
            attention,
            norms.mlp,
            MLP(gate_up, down, activation),
            norms.attention_post,
            norms.mlp_post,
            spec.is_parallel,
        )

    layers, packed_layers = [], []
    for index in range(spec.num_layers):
        of_layer = norms(_layer(index))
        stored = [fuse(_layer(index), part) for part in _projections(spec)]
        if spec.interleaved_rope:
            stored[0] = _in_halves(stored[0], spec)
        layers.append(layer(index, [build_linear(*each, device, dtype) for each in stored], of_layer))
        packed = [
            pack_linear(each.weight, each.bias)
            for each in stored
            if packs(device, dtype) and isinstance(each.weight, QuantizedMatrix)
        ]
        if len(packed) == len(stored) and spec.consists_of_loops:
            packed_layers.append(layer(index, packed, _Norms(*map(_widened, of_layer))))
    shape = spec.vocab_size, spec.hidden_size
    embedded = read(_EMBEDDING, shape)
    multiplier = spec.embedding_multiplier
    if spec.rounds_embedding_multiplier:
        multiplier = torch.tensor(multiplier, dtype=dtype).item()
    embedding = Embedding(_dense(embedded).to(device=device, dtype=dtype), multiplier)
    if spec.tie_embeddings:
        head = build_lm_head(embedded, embedding.weight, device, dtype)
    else:
        head = build_lm_head(read(_HEAD, shape), None, device, dtype)
    last = norm(_NORM)
    return Decoder(
        spec=spec,
        embedding=embedding,
        stack=Stack(layers, last),
        head=head,
        few_rows=Stack(packed_layers, _widened(last)) if len(packed_layers) == spec.num_layers else None,
    )


def tensor_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors that build_decoder reads."""
    hidden, names = spec.hidden_size, spec.tensors
    shapes: dict[str, tuple[int, ...]] = {_EMBEDDING: (spec.vocab_size, hidden)}
    if not spec.tie_embeddings:
        shapes[_HEAD] = spec.vocab_size, hidden
    stream_norms = [_NORM]
    for at in map(_layer, range(spec.num_layers)):
        stream_norms += [at + name for name in names.stream_norms]
        if spec.qk_norm:
            q_width, k_width = spec.qk_norm_sizes
            shapes |= {f"{at}{names.q_norm}.weight": (q_width,), f"{at}{names.k_norm}.weight": (k_width,)}
        for part in _projections(spec):
            for name, count in part.rows.items():
                shapes[f"{at}{name}.weight"] = count, part.columns
                if part.has_bias:
                    shapes[f"{at}{name}.bias"] = (count,)
    for name in stream_norms:
        shapes |= {f"{name}.{kind}": (hidden,) for kind in ("weight", "bias")[: 1 + spec.norm_bias]}
    return shapes


def _layer(index: int) -> str:
    return f"model.layers.{index}."


def _projections(spec: ModelSpec) -> tuple[_Fused, _Fused, _Fused, _Fused]:
    """What a layer multiplies by, in its order."""
    names, hidden, inner = spec.tensors, spec.hidden_size, spec.intermediate_size
    q_rows, kv_rows = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    return (
        _Fused(hidden, _rows(names.qkv, q_rows, kv_rows, kv_rows), spec.qkv_bias),
        _Fused(q_rows, {names.output: hidden}, spec.output_bias),
        _Fused(hidden, _rows(names.gate_up, *[inner] * (spec.gate_up_size // inner)), spec.mlp_bias),
        _Fused(inner, {names.down: hidden}, spec.mlp_bias),
    )


def _rows(names: tuple[str, ...], *counts: int) -> dict[str, int]:
    """The rows of each projection, or of the one that a checkpoint stores them as."""
    return {names[0]: sum(counts)} if len(names) == 1 else dict(zip(names, counts, strict=True))


def _in_halves(qkv: _Stored, spec: ModelSpec) -> _Stored:
    """Queries and keys whose rotary embedding turns neighbours, their rows in the order in which it turns halves: the
    products of queries and keys stay the same."""
    heads = torch.arange(qkv.weight.shape[0]).view(-1, spec.head_dim)
    turned = heads[: spec.num_heads + spec.num_kv_heads, : spec.rotated]
    turned.copy_(torch.cat((turned[:, ::2], turned[:, 1::2]), dim=1))
    order = heads.flatten()
    weight = qkv.weight.rows(order) if isinstance(qkv.weight, QuantizedMatrix) else qkv.weight[order]
    return _Stored(weight, None if qkv.bias is None else qkv.bias[order])


def _dense(stored: StoredTensor) -> torch.Tensor:
    return stored.dequantize() if isinstance(stored, QuantizedMatrix) else stored


def _fuse(parts: list[StoredTensor]) -> StoredTensor:
    """The parts' rows, one part under another; in groups while all parts are of one kind of them."""
    groups = [part for part in parts if isinstance(part, QuantizedMatrix)]
    fused = concatenate(groups) if len(groups) == len(parts) else None
    return torch.cat([_dense(part) for part in parts]) if fused is None else fused


def _widened(norm: Any) -> Any:
    """An RMSNorm with its weight in float32; None of None."""
    return None if norm is None else replace(norm, weight=norm.weight.float())


def dummy_reader(device: torch.device, dtype: torch.dtype, seed: int) -> ReadTensor:
    """A source of random weights (norms are ones), to measure a model's shape without its checkpoint."""
    generator = torch.Generator(device).manual_seed(seed)

    def read(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        if "norm" in name:
            return torch.ones(shape, device=device, dtype=dtype)
        return torch.empty(shape, device=device, dtype=dtype).normal_(0.0, 0.02, generator=generator)

    return read
