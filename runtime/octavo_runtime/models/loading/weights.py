"""From named tensors to a decoder: projections that run together are stored fused."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from octavo_kernels.decode_layers import PackedLayer, PackedProjection
from octavo_runtime.layers.attention import Attention
from octavo_runtime.layers.embedding import Embedding
from octavo_runtime.layers.linear import build_linear, pack_groups, packs
from octavo_runtime.layers.lm_head import build_lm_head
from octavo_runtime.layers.mlp import MLP
from octavo_runtime.layers.norm import RMSNorm
from octavo_runtime.layers.rotary import RotaryEmbedding
from octavo_runtime.models.decoder import Decoder, DecoderLayer
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.quantization.quantized_matrix import QuantizedMatrix, concatenate

_EMBEDDING, _NORM, _HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
_LAYER_NORMS = "input_layernorm.weight", "post_attention_layernorm.weight"
_Q_NORM, _K_NORM = "self_attn.q_norm.weight", "self_attn.k_norm.weight"

StoredTensor = torch.Tensor | QuantizedMatrix
ReadTensor = Callable[[str, tuple[int, ...]], StoredTensor]


class _Fused(NamedTuple):
    """Projections of one input that run as one, their outputs side by side."""

    prefix: str
    columns: int
    rows: dict[str, int]  # by the projection's name
    has_bias: bool


class _Stored(NamedTuple):
    """A projection as its checkpoint has it."""

    weight: StoredTensor  # [out, in]
    bias: torch.Tensor | None  # [out]


def build_decoder(spec: ModelSpec, read: ReadTensor, device: torch.device, dtype: torch.dtype) -> Decoder:
    """Reads every tensor by its Hugging Face name, fuses and places it."""

    def place(name: str, *shape: int) -> torch.Tensor:
        return _dense(read(name, shape)).to(device=device, dtype=dtype)

    def norm(name: str, width: int) -> RMSNorm:
        return RMSNorm(place(name, width), spec.rms_norm_eps)

    def fuse(at: str, part: _Fused) -> _Stored:
        prefix, rows = at + part.prefix, part.rows.items()
        weight = _fuse([read(f"{prefix}{name}.weight", (count, part.columns)) for name, count in rows])
        biases = [place(f"{prefix}{name}.bias", count) for name, count in rows] if part.has_bias else None
        return _Stored(weight, torch.cat(biases) if biases else None)

    rotary = RotaryEmbedding(spec.head_dim, spec.rope_theta, spec.rope_scaling, device)
    layers, packed = [], []
    for index in range(spec.num_layers):
        at = _layer(index)
        attention_norm, mlp_norm = (norm(at + name, spec.hidden_size) for name in _LAYER_NORMS)
        projections = [fuse(at, part) for part in _projections(spec)]
        qkv, output, gate_up, down = (build_linear(*stored, device, dtype) for stored in projections)
        attention = Attention(
            qkv=qkv,
            output=output,
            rotary=None if index in spec.unrotated_layers else rotary,
            num_heads=spec.num_heads,
            num_kv_heads=spec.num_kv_heads,
            head_dim=spec.head_dim,
            scale=spec.attention_scale or 1 / math.sqrt(spec.head_dim),
            q_norm=norm(at + _Q_NORM, spec.head_dim) if spec.qk_norm else None,
            k_norm=norm(at + _K_NORM, spec.head_dim) if spec.qk_norm else None,
            window=spec.window_of(index),
            softcap=spec.attention_softcap,
        )
        layers.append(DecoderLayer(attention_norm, attention, mlp_norm, MLP(gate_up, down), spec.residual_multiplier))
        if packs(device, dtype) and spec.is_plain:
            packed_qkv, packed_output, packed_gate_up, packed_down = map(_pack, projections)
            if packed_qkv and packed_output and packed_gate_up and packed_down:
                packed.append(
                    PackedLayer(
                        attention_norm.weight, packed_qkv, packed_output, mlp_norm.weight, packed_gate_up, packed_down
                    )
                )
    shape = spec.vocab_size, spec.hidden_size
    embedded = read(_EMBEDDING, shape)
    embedding = Embedding(_dense(embedded).to(device=device, dtype=dtype), spec.embedding_multiplier)
    if spec.tie_embeddings:
        head = build_lm_head(embedded, embedding.weight, device, dtype)
    else:
        head = build_lm_head(read(_HEAD, shape), None, device, dtype)
    return Decoder(
        spec=spec,
        embedding=embedding,
        layers=tuple(layers),
        norm=norm(_NORM, spec.hidden_size),
        head=head,
        rotary=rotary,
        packed_layers=tuple(packed) if len(packed) == spec.num_layers else None,
    )


def tensor_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors that build_decoder reads."""
    hidden = spec.hidden_size
    shapes: dict[str, tuple[int, ...]] = {_EMBEDDING: (spec.vocab_size, hidden), _NORM: (hidden,)}
    if not spec.tie_embeddings:
        shapes[_HEAD] = spec.vocab_size, hidden
    for at in map(_layer, range(spec.num_layers)):
        shapes |= {at + name: (hidden,) for name in _LAYER_NORMS}
        if spec.qk_norm:
            shapes |= {at + name: (spec.head_dim,) for name in (_Q_NORM, _K_NORM)}
        for part in _projections(spec):
            for name, count in part.rows.items():
                shapes[f"{at}{part.prefix}{name}.weight"] = count, part.columns
                if part.has_bias:
                    shapes[f"{at}{part.prefix}{name}.bias"] = (count,)
    return shapes


def _layer(index: int) -> str:
    return f"model.layers.{index}."


def _projections(spec: ModelSpec) -> tuple[_Fused, _Fused, _Fused, _Fused]:
    """What a layer multiplies by, in its order."""
    hidden, inner = spec.hidden_size, spec.intermediate_size
    q_rows, kv_rows = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    qkv = {"q_proj": q_rows, "k_proj": kv_rows, "v_proj": kv_rows}
    return (
        _Fused("self_attn.", hidden, qkv, spec.qkv_bias),
        _Fused("self_attn.", q_rows, {"o_proj": hidden}, spec.output_bias),
        _Fused("mlp.", hidden, {"gate_proj": inner, "up_proj": inner}, spec.mlp_bias),
        _Fused("mlp.", inner, {"down_proj": hidden}, spec.mlp_bias),
    )


def _dense(stored: StoredTensor) -> torch.Tensor:
    return stored.dequantize() if isinstance(stored, QuantizedMatrix) else stored


def _fuse(parts: list[StoredTensor]) -> StoredTensor:
    """The parts' rows, one part under another; in groups while all parts are of one kind of them."""
    groups = [part for part in parts if isinstance(part, QuantizedMatrix)]
    fused = concatenate(groups) if len(groups) == len(parts) else None
    return torch.cat([_dense(part) for part in parts]) if fused is None else fused


def _pack(stored: _Stored) -> PackedProjection | None:
    if not isinstance(stored.weight, QuantizedMatrix):
        return None
    return PackedProjection(pack_groups(stored.weight), stored.bias)


def dummy_reader(device: torch.device, dtype: torch.dtype, seed: int) -> ReadTensor:
    """A source of random weights (norms are ones), to measure a model's shape without its checkpoint."""
    generator = torch.Generator(device).manual_seed(seed)

    def read(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        if "norm" in name:
            return torch.ones(shape, device=device, dtype=dtype)
        return torch.empty(shape, device=device, dtype=dtype).normal_(0.0, 0.02, generator=generator)

    return read
