"""The decoder's weights on their device: projections that run together are stored fused."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from octavo_runtime.model.spec import ModelSpec
from octavo_runtime.quant.int4_groups import Int4Groups, concatenate
from octavo_runtime.quant.linear import DenseLinear, Linear, build_linear, build_tied_head

StoredTensor = torch.Tensor | Int4Groups
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

    @property
    def num_bytes(self) -> int:
        """Bytes of memory; a head that is the embedding itself counts once."""
        shared = isinstance(self.head, DenseLinear) and self.head.weight is self.embedding
        head = 0 if shared else self.head.num_bytes
        return self.embedding.nbytes + self.norm.nbytes + head + sum(layer.num_bytes for layer in self.layers)


def load_weights(spec: ModelSpec, read: ReadTensor, device: torch.device, dtype: torch.dtype) -> Weights:
    """Reads every tensor by its Hugging Face name, fuses and places it."""

    def place(name: str, *shape: int) -> torch.Tensor:
        return _dense(read(name, shape)).to(device=device, dtype=dtype)

    def project(prefix: str, columns: int, rows: dict[str, int], bias: bool) -> Linear:
        """The named projections as one, their outputs side by side."""
        weight = _fuse([read(f"{prefix}{name}.weight", (count, columns)) for name, count in rows.items()])
        biases = [place(f"{prefix}{name}.bias", count) for name, count in rows.items()] if bias else None
        return build_linear(weight, torch.cat(biases) if biases else None, device, dtype)

    hidden, inner = spec.hidden_size, spec.intermediate_size
    q_rows, kv_rows = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    layers = []
    for index in range(spec.num_layers):
        at = f"model.layers.{index}."
        attention, mlp = at + "self_attn.", at + "mlp."
        qkv = {"q_proj": q_rows, "k_proj": kv_rows, "v_proj": kv_rows}
        layers.append(
            LayerWeights(
                input_norm=place(at + "input_layernorm.weight", hidden),
                qkv=project(attention, hidden, qkv, spec.attention_bias),
                output=project(attention, q_rows, {"o_proj": hidden}, spec.attention_bias),
                mlp_norm=place(at + "post_attention_layernorm.weight", hidden),
                gate_up=project(mlp, hidden, {"gate_proj": inner, "up_proj": inner}, spec.mlp_bias),
                down=project(mlp, inner, {"down_proj": hidden}, spec.mlp_bias),
            )
        )
    embedding = place("model.embed_tokens.weight", spec.vocab_size, hidden)
    if spec.tie_embeddings:
        head = build_tied_head(embedding)
    else:
        head = build_linear(read("lm_head.weight", (spec.vocab_size, hidden)), None, device, dtype)
    return Weights(
        embedding=embedding,
        layers=tuple(layers),
        norm=place("model.norm.weight", hidden),
        head=head,
    )


def _dense(stored: StoredTensor) -> torch.Tensor:
    return stored.dequantize() if isinstance(stored, Int4Groups) else stored


def _fuse(parts: list[StoredTensor]) -> StoredTensor:
    """The parts' rows, one part under another; packed while all parts are."""
    packed = [part for part in parts if isinstance(part, Int4Groups)]
    if len(packed) == len(parts):
        return concatenate(packed)
    return torch.cat([_dense(part) for part in parts])


def dummy_reader(device: torch.device, dtype: torch.dtype, seed: int) -> ReadTensor:
    """A source of random weights (norms are ones), to measure a model's shape without its checkpoint."""
    generator = torch.Generator(device).manual_seed(seed)

    def read(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        if "norm" in name:
            return torch.ones(shape, device=device, dtype=dtype)
        return torch.empty(shape, device=device, dtype=dtype).normal_(0.0, 0.02, generator=generator)

    return read
