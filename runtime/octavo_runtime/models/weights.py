"""The decoder's weights on their device: projections that run together are stored fused."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from octavo_kernels.decode_layers import PackedLayer, PackedProjection
from octavo_runtime.layers.linear import DenseLinear, Linear, build_head, build_linear, pack_groups, packs
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.quantization.groups import Groups, concatenate

_EMBEDDING, _NORM, _HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
_LAYER_NORMS = ("input_layernorm.weight", "post_attention_layernorm.weight")

StoredTensor = torch.Tensor | Groups
ReadTensor = Callable[[str, tuple[int, ...]], StoredTensor]


@dataclass(frozen=True)
class LayerWeights:
    """One decoder layer."""

    input_norm: torch.Tensor  # [hidden]
    qkv: Linear  # hidden -> (heads + 2 * kv_heads) * head_dim
    output: Linear  # heads * head_dim -> hidden
    mlp_norm: torch.Tensor  # [hidden]
    gate_up: Linear  # hidden -> 2 * intermediate
    down: Linear  # intermediate -> hidden

    @property
    def num_bytes(self) -> int:
        projections = (self.qkv, self.output, self.gate_up, self.down)
        return self.input_norm.nbytes + self.mlp_norm.nbytes + sum(linear.num_bytes for linear in projections)


@dataclass(frozen=True)
class Weights:
    """All weights of a decoder, computing in one dtype on one device."""

    embedding: torch.Tensor  # [vocab, hidden]
    layers: tuple[LayerWeights, ...]
    norm: torch.Tensor  # [hidden]
    head: Linear  # hidden -> vocab
    packed_layers: tuple[PackedLayer, ...] | None = None  # the layers for few rows, where they are kept so

    @property
    def num_bytes(self) -> int:
        """Bytes of memory; a head that is the embedding itself counts once."""
        shared = isinstance(self.head, DenseLinear) and self.head.weight is self.embedding
        head = 0 if shared else self.head.num_bytes
        layers = sum(layer.num_bytes for layer in self.layers) + sum(layer.nbytes for layer in self.packed_layers or ())
        return self.embedding.nbytes + self.norm.nbytes + head + layers


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


def load_weights(spec: ModelSpec, read: ReadTensor, device: torch.device, dtype: torch.dtype) -> Weights:
    """Reads every tensor by its Hugging Face name, fuses and places it."""

    def place(name: str, *shape: int) -> torch.Tensor:
        return _dense(read(name, shape)).to(device=device, dtype=dtype)

    def fuse(at: str, part: _Fused) -> _Stored:
        prefix, rows = at + part.prefix, part.rows.items()
        weight = _fuse([read(f"{prefix}{name}.weight", (count, part.columns)) for name, count in rows])
        biases = [place(f"{prefix}{name}.bias", count) for name, count in rows] if part.has_bias else None
        return _Stored(weight, torch.cat(biases) if biases else None)

    hidden = spec.hidden_size
    layers, packed = [], []
    for index in range(spec.num_layers):
        at = _layer(index)
        input_norm, mlp_norm = (place(at + name, hidden) for name in _LAYER_NORMS)
        projections = [fuse(at, part) for part in _projections(spec)]
        qkv, output, gate_up, down = (build_linear(*stored, device, dtype) for stored in projections)
        layers.append(LayerWeights(input_norm, qkv, output, mlp_norm, gate_up, down))
        if packs(device, dtype):
            qkv_groups, output_groups, gate_up_groups, down_groups = map(_pack, projections)
            if qkv_groups and output_groups and gate_up_groups and down_groups:
                packed.append(PackedLayer(input_norm, qkv_groups, output_groups, mlp_norm, gate_up_groups, down_groups))
    embedded = read(_EMBEDDING, (spec.vocab_size, hidden))
    embedding = _dense(embedded).to(device=device, dtype=dtype)
    if spec.tie_embeddings:
        head = build_head(embedded, embedding, device, dtype)
    else:
        head = build_head(read(_HEAD, (spec.vocab_size, hidden)), None, device, dtype)
    return Weights(
        embedding=embedding,
        layers=tuple(layers),
        norm=place(_NORM, hidden),
        head=head,
        packed_layers=tuple(packed) if len(packed) == spec.num_layers else None,
    )


def tensor_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors that load_weights reads."""
    hidden = spec.hidden_size
    shapes: dict[str, tuple[int, ...]] = {_EMBEDDING: (spec.vocab_size, hidden), _NORM: (hidden,)}
    if not spec.tie_embeddings:
        shapes[_HEAD] = spec.vocab_size, hidden
    for at in map(_layer, range(spec.num_layers)):
        shapes |= {at + name: (hidden,) for name in _LAYER_NORMS}
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
        _Fused("self_attn.", hidden, qkv, spec.attention_bias),
        _Fused("self_attn.", q_rows, {"o_proj": hidden}, spec.attention_bias),
        _Fused("mlp.", hidden, {"gate_proj": inner, "up_proj": inner}, spec.mlp_bias),
        _Fused("mlp.", inner, {"down_proj": hidden}, spec.mlp_bias),
    )


def _dense(stored: StoredTensor) -> torch.Tensor:
    return stored.dequantize() if isinstance(stored, Groups) else stored


def _fuse(parts: list[StoredTensor]) -> StoredTensor:
    """The parts' rows, one part under another; in groups while all parts are of one kind of them."""
    groups = [part for part in parts if isinstance(part, Groups)]
    fused = concatenate(groups) if len(groups) == len(parts) else None
    return torch.cat([_dense(part) for part in parts]) if fused is None else fused


def _pack(stored: _Stored) -> PackedProjection | None:
    if not isinstance(stored.weight, Groups):
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
