"""The decoder's weights on their device: projections that run together are stored fused."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from octavo_runtime.model.spec import ModelSpec

ReadTensor = Callable[[str, tuple[int, ...]], torch.Tensor]


@dataclass(frozen=True)
class LayerWeights:
    """One decoder layer. Projections are [out, in], as torch.nn.functional.linear takes them."""

    input_norm: torch.Tensor  # [hidden]
    qkv: torch.Tensor  # [(heads + 2 * kv_heads) * head_dim, hidden]
    qkv_bias: torch.Tensor | None
    output: torch.Tensor  # [hidden, heads * head_dim]
    output_bias: torch.Tensor | None
    mlp_norm: torch.Tensor  # [hidden]
    gate_up: torch.Tensor  # [2 * intermediate, hidden]
    gate_up_bias: torch.Tensor | None
    down: torch.Tensor  # [hidden, intermediate]
    down_bias: torch.Tensor | None


@dataclass(frozen=True)
class Weights:
    """All weights of a decoder, in one dtype on one device."""

    embedding: torch.Tensor  # [vocab, hidden]
    layers: tuple[LayerWeights, ...]
    norm: torch.Tensor  # [hidden]
    head: torch.Tensor  # [vocab, hidden]; the embedding itself where the two are tied

    @property
    def num_bytes(self) -> int:
        """Bytes of memory, tied tensors counted once."""
        tensors = [
            self.embedding,
            self.norm,
            *(t for layer in self.layers for t in vars(layer).values() if t is not None),
        ]
        if self.head is not self.embedding:
            tensors.append(self.head)
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def load_weights(spec: ModelSpec, read: ReadTensor, device: torch.device, dtype: torch.dtype) -> Weights:
    """Reads every tensor by its Hugging Face name, casts, fuses and places it."""

    def place(name: str, *shape: int) -> torch.Tensor:
        return read(name, shape).to(device=device, dtype=dtype)

    def fuse(*parts: torch.Tensor) -> torch.Tensor:
        return torch.cat(parts)

    hidden, inner = spec.hidden_size, spec.intermediate_size
    q_rows, kv_rows = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    layers = []
    for index in range(spec.num_layers):
        at = f"model.layers.{index}."
        attention, mlp = at + "self_attn.", at + "mlp."
        layers.append(
            LayerWeights(
                input_norm=place(at + "input_layernorm.weight", hidden),
                qkv=fuse(
                    place(attention + "q_proj.weight", q_rows, hidden),
                    place(attention + "k_proj.weight", kv_rows, hidden),
                    place(attention + "v_proj.weight", kv_rows, hidden),
                ),
                qkv_bias=fuse(
                    place(attention + "q_proj.bias", q_rows),
                    place(attention + "k_proj.bias", kv_rows),
                    place(attention + "v_proj.bias", kv_rows),
                )
                if spec.attention_bias
                else None,
                output=place(attention + "o_proj.weight", hidden, q_rows),
                output_bias=place(attention + "o_proj.bias", hidden) if spec.attention_bias else None,
                mlp_norm=place(at + "post_attention_layernorm.weight", hidden),
                gate_up=fuse(
                    place(mlp + "gate_proj.weight", inner, hidden), place(mlp + "up_proj.weight", inner, hidden)
                ),
                gate_up_bias=fuse(place(mlp + "gate_proj.bias", inner), place(mlp + "up_proj.bias", inner))
                if spec.mlp_bias
                else None,
                down=place(mlp + "down_proj.weight", hidden, inner),
                down_bias=place(mlp + "down_proj.bias", hidden) if spec.mlp_bias else None,
            )
        )
    embedding = place("model.embed_tokens.weight", spec.vocab_size, hidden)
    return Weights(
        embedding=embedding,
        layers=tuple(layers),
        norm=place("model.norm.weight", hidden),
        head=embedding if spec.tie_embeddings else place("lm_head.weight", spec.vocab_size, hidden),
    )


def dummy_reader(device: torch.device, dtype: torch.dtype, seed: int) -> ReadTensor:
    """A source of random weights (norms are ones), to measure a model's shape without its checkpoint."""
    generator = torch.Generator(device).manual_seed(seed)

    def read(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        if "norm" in name:
            return torch.ones(shape, device=device, dtype=dtype)
        return torch.empty(shape, device=device, dtype=dtype).normal_(0.0, 0.02, generator=generator)

    return read
