"""ModelSpec: a decoder family described as data. Free of torch."""

from dataclasses import dataclass
from typing import Literal

from octavo_runtime.layers.rope_scaling import DividedRope, LongRope, RopeScaling
from octavo_runtime.models.tensor_names import LLAMA_NAMES, TensorNames


class UnsupportedModel(ValueError):
    """The model cannot be served; one line that says which property, and what is supported."""


Activation = Literal["silu", "gelu_tanh"]


@dataclass(frozen=True)
class ModelSpec:
    """Shape and arithmetic of one decoder-only model, in the terms of Hugging Face's config.json."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position: int  # no position is beyond it
    rms_norm_eps: float  # of all norms, whatever their kind
    rope_theta: float
    rope_scaling: RopeScaling | None  # None: plain rotary embedding
    tie_embeddings: bool
    qkv_bias: bool
    output_bias: bool  # of the attention's output projection
    mlp_bias: bool
    eos_token_ids: tuple[int, ...]
    qk_norm: bool = False  # queries and keys are normalised, each head by itself, before they are turned
    qk_norm_spans_heads: bool = False  # that norm is one of all heads together
    rotary_dim: int | None = None  # entries of a head that are turned, the first ones; None: all
    interleaved_rope: bool = False  # the rows of queries and keys are stored to turn neighbours instead of halves
    unrotated_layers: frozenset[int] = frozenset()  # layers without a rotary embedding
    attention_scale: float | None = None  # of the scores of queries and keys; None: 1 / sqrt(head_dim)
    embedding_multiplier: float = 1.0
    rounds_embedding_multiplier: bool = False  # to the type of the weights
    residual_multiplier: float = 1.0  # of what attention and MLP add to the residual stream
    logits_divisor: float = 1.0
    logits_softcap: float | None = None  # logits become softcap * tanh(logits / softcap)
    window: int | None = None  # the last tokens that windowed layers attend to, the newest among them
    windowed_layers: frozenset[int] = frozenset()
    windowed_rope_theta: float | None = None  # of windowed layers, whose rope is plain; None: as of the others
    attention_softcap: float | None = None  # of the scores of queries and keys, likewise
    norm_offset: float = 0.0  # added to the weights of all norms
    norm: Literal["rms", "layer"] = "rms"  # of the residual stream
    norm_bias: bool = False  # of layer norms
    activation: Activation = "silu"  # of the MLP's gate
    is_gated: bool = True  # the MLP has a gate; else the activation is of what would be multiplied by it
    is_parallel: bool = False  # attention and MLP of a layer read the same norm of the residual stream
    tensors: TensorNames = LLAMA_NAMES

    @property
    def rotated(self) -> int:
        """Entries of a head that the rotary embedding turns."""
        return self.head_dim if self.rotary_dim is None else self.rotary_dim

    @property
    def qk_norm_sizes(self) -> tuple[int, int]:
        """Weights of the norms of queries and of keys; 0 where there are none."""
        heads = (self.num_heads, self.num_kv_heads) if self.qk_norm_spans_heads else (1, 1)
        return heads[0] * self.head_dim * self.qk_norm, heads[1] * self.head_dim * self.qk_norm

    @property
    def gate_up_size(self) -> int:
        """Rows of the fused gate and up projection."""
        return (2 if self.is_gated else 1) * self.intermediate_size

    @property
    def qkv_size(self) -> int:
        """Rows of the fused query, key and value projection."""
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_dim

    def window_of(self, layer: int) -> int | None:
        """How far a layer's attention reaches; None: to all that came before, as in a window that no request
        outgrows."""
        inside = layer in self.windowed_layers and self.window is not None and self.window < self.max_position
        return self.window if inside else None

    @property
    def consists_of_loops(self) -> bool:
        """Whether all that a layer computes between its projections is what a CPU has loops of its own for."""
        normed = self.tensors.attention_norm is not None and self.tensors.mlp_norm is not None
        return self.norm == "rms" and normed and self.is_gated and not self.is_parallel


def check_shape(spec: ModelSpec) -> ModelSpec:
    """The spec itself, where its numbers suit each other; UnsupportedModel names those that do not."""
    if spec.num_heads % spec.num_kv_heads:
        raise UnsupportedModel(
            f"num_key_value_heads must divide num_attention_heads ({spec.num_heads}), got {spec.num_kv_heads}"
        )
    if spec.head_dim % 2:
        raise UnsupportedModel(f"head_dim must be even, got {spec.head_dim}")
    if not 2 <= spec.rotated <= spec.head_dim or spec.rotated % 2:
        raise UnsupportedModel(
            f"partial_rotary_factor must make an even part of head_dim ({spec.head_dim}), got {spec.rotated}"
        )
    if isinstance(spec.rope_scaling, DividedRope | LongRope) and len(spec.rope_scaling.divisors) != spec.rotated // 2:
        name = "rope_freqs.weight" if isinstance(spec.rope_scaling, DividedRope) else "rope_scaling.short_factor"
        raise UnsupportedModel(
            f"{name} must hold {spec.rotated // 2} numbers, half of what is turned of head_dim, "
            f"got {len(spec.rope_scaling.divisors)}"
        )
    return spec
