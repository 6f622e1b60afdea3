"""ModelSpec: a family of models described as data. Free of torch."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from octavo_runtime.layers.activation import Activation
from octavo_runtime.layers.rope_scaling import DividedRope, LongRope, RopeScaling
from octavo_runtime.layers.routing import Routing
from octavo_runtime.models.encoder_spec import EncoderSpec
from octavo_runtime.models.tensor_names import LLAMA_NAMES, TensorNames, layer_prefix
from octavo_runtime.quantization.scheme import Scheme, Values


class UnsupportedModel(ValueError):
    """The model cannot be served; one line that says which property, and what is supported."""


class HeldExperts(NamedTuple):
    """So many of a layer's experts, from the `first` on."""

    first: int
    number: int


@dataclass(frozen=True)
class ExpertLayers:
    """The layers that have experts in the place of one MLP: gated ones of `intermediate_size`."""

    layers: frozenset[int]
    routing: Routing
    intermediate_size: int
    shared_size: int = 0  # of the MLP beside them that all tokens go through; 0: there is none
    gates_shared: bool = False  # what it brings is times the sigmoid of a projection to one number
    has_biases: bool = False  # the router and the chosen experts
    limit: float | None = None  # of their activation, see octavo_kernels.experts
    is_packed: bool = False  # their weights are stored and kept in MXFP4
    held: HeldExperts | None = None  # those that this rank has, where other ranks have the others; None: all

    @property
    def here(self) -> range:
        """The numbers of the experts that this rank has."""
        first, number = self.held or (0, self.routing.num_experts)
        return range(first, first + number)


@dataclass(frozen=True)
class LatentHeads:
    """Multi-head latent attention (DeepSeek-V2, 2024): a token's keys and values are made of one latent of `rank`
    entries, which the cache holds, with a rotated part of the key beside it, which all heads share. Of a head of
    queries or keys the last `rotary_dim` entries are that part."""

    rank: int
    value_dim: int  # of each head
    query_rank: int | None = None  # of a latent that queries are made of; None: of the hidden state itself
    has_biases: bool = False  # of what makes the latents, and of the output projection


class CachedToken(NamedTuple):
    """What the cache of a layer holds of one token: [planes, heads, width]."""

    planes: int
    heads: int
    width: int


@dataclass(frozen=True)
class ModelSpec:
    """Shape and arithmetic of one decoder-only model, or of an encoder, in the terms of Hugging Face's config.json."""

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
    qk_norm_follows_rope: bool = False  # they are normalised after they are turned
    qk_layer_norm: bool = False  # that norm is a LayerNorm without bias, each head with weights of its own
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
    has_sinks: bool = False  # each head has a score that counts in the softmax alone
    alibi_slopes: tuple[float, ...] | None = None  # of each query head of the whole model, see layers.alibi; None: none
    norm_offset: float = 0.0  # added to the weights of all norms
    norm: Literal["rms", "layer"] = "rms"  # of the residual stream
    norm_bias: bool = False  # of layer norms
    activation: Activation = "silu"  # of the MLP's gate
    qkv_by_groups: bool = False  # rows are stored by KV heads: the queries of one, its keys, its values
    position_offset: int | None = None  # of the row that is added to the first token; None: no positions are learned
    normalises_embedding: bool = False  # what the residual stream begins with
    projected_words: int | None = None  # size of words' vectors that are projected to hidden_size, and back; None: none
    is_post_norm: bool = False  # norms stand behind attention and MLP, and bring the residual stream itself
    is_gated: bool = True  # the MLP has a gate; else the activation is of what would be multiplied by it
    is_parallel: bool = False  # attention and MLP of a layer read the same norm of the residual stream
    experts: ExpertLayers | None = None
    latent: LatentHeads | None = None  # of all layers, instead of keys and values of their own
    head_bias: bool = False  # of the output head
    head_size: int | None = None  # words that the head scores, where other ranks score the others; None: all
    tensors: TensorNames = LLAMA_NAMES
    quantization: Scheme | None = None  # how its checkpoint stores projections in fewer bits
    labels: int = 0  # scores that it gives a text in the place of the next token's; 0: none
    encoder: EncoderSpec | None = None  # None: a decoder
    layers_before: int = 0  # those that other stages of a pipeline compute before this one
    layers_after: int = 0  # and behind it
    group_windows: tuple[int | None, ...] | None = None  # of a stage: of the whole model's groups, see layer_groups
    unread: tuple[str, ...] = ()  # how the names of tensors begin that a checkpoint holds for other ends

    @property
    def values_at_load(self) -> Values | None:
        """Which numbers of 8 bits the weights of 16 become while they load; None where they stay as they are stored."""
        return self.quantization.values if self.quantization is not None and self.quantization.at_load else None

    @property
    def expert_layers(self) -> frozenset[int]:
        """The layers that have experts in the place of one MLP."""
        return self.experts.layers if self.experts is not None else frozenset()

    @property
    def begins(self) -> bool:
        """Whether tokens come in here, and not the residual stream of the stage before."""
        return self.layers_before == 0

    @property
    def ends(self) -> bool:
        """Whether scores come out, and not the residual stream for the next stage."""
        return self.layers_after == 0

    def prefix_of(self, layer: int) -> str:
        """How a checkpoint names the tensors of a layer."""
        return layer_prefix(self.layers_before + layer)

    @property
    def rotated(self) -> int:
        """Entries of a head that the rotary embedding turns."""
        return self.head_dim if self.rotary_dim is None else self.rotary_dim

    @property
    def qk_norm_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of the weights that queries and keys are normalised with, where they are."""
        heads, kv_heads, dim = self.num_heads, self.num_kv_heads, self.head_dim
        if self.qk_layer_norm:
            return (heads, dim), (kv_heads, dim)
        return ((heads * dim,), (kv_heads * dim,)) if self.qk_norm_spans_heads else ((dim,), (dim,))

    @property
    def qk_norm_size(self) -> int:
        """Weights of the norms of a layer's queries and keys."""
        return sum(map(math.prod, self.qk_norm_shapes)) if self.qk_norm else 0

    @property
    def learned_positions(self) -> int:
        """Rows of the table of learned positions; 0 where there is none."""
        return 0 if self.position_offset is None else self.max_position + self.position_offset

    @property
    def word_size(self) -> int:
        """Numbers of a word's vector, and of what the layers bring for the output head."""
        return self.projected_words or self.hidden_size

    @property
    def gate_up_size(self) -> int:
        """Rows of the fused gate and up projection."""
        return (2 if self.is_gated else 1) * self.intermediate_size

    @property
    def qkv_size(self) -> int:
        """Rows of the fused query, key and value projection; of latent attention those of the queries."""
        heads = self.num_heads + (0 if self.latent is not None else 2 * self.num_kv_heads)
        return heads * self.head_dim

    @property
    def attended_dim(self) -> int:
        """What attention brings for each head."""
        return self.head_dim if self.latent is None else self.latent.value_dim

    @property
    def cached_token(self) -> CachedToken:
        """What the cache of a layer holds of one token: a key and a value for each KV head, or one latent."""
        if self.latent is not None:
            return CachedToken(1, 1, self.latent.rank + self.rotated)
        return CachedToken(2, self.num_kv_heads, self.head_dim)

    def window_of(self, layer: int) -> int | None:
        """How far a layer's attention reaches; None: to all that came before, as in a window that no request
        outgrows."""
        inside = layer in self.windowed_layers and self.window is not None and self.window < self.max_position
        return self.window if inside else None

    @property
    def consists_of_loops(self) -> bool:
        """Whether all that a layer computes between its projections is what a CPU has loops of its own for."""
        normed = self.tensors.attention_norm is not None and self.tensors.mlp_norm is not None
        is_plain = self.experts is None and self.latent is None and self.projected_words is None
        is_plain = is_plain and not (self.qk_norm_follows_rope or self.qk_layer_norm)
        return self.norm == "rms" and normed and self.is_gated and not self.is_parallel and is_plain


def check_shape(spec: ModelSpec) -> ModelSpec:
    """The spec itself, where its numbers suit each other; UnsupportedModel names those that do not."""
    if spec.num_heads % spec.num_kv_heads:
        raise UnsupportedModel(
            f"num_key_value_heads must divide num_attention_heads ({spec.num_heads}), got {spec.num_kv_heads}"
        )
    if spec.is_gated and spec.activation not in ("silu", "gelu_tanh", "gelu"):
        raise UnsupportedModel(f"a gate's activation must be silu, gelu_tanh or gelu, got {spec.activation}")
    if spec.window == 0:
        raise UnsupportedModel("sliding_window must be at least 1, got 0")
    if spec.head_dim % 2:
        raise UnsupportedModel(f"head_dim must be even, got {spec.head_dim}")
    if not 2 <= spec.rotated <= spec.head_dim or spec.rotated % 2:
        raise UnsupportedModel(
            f"partial_rotary_factor must make an even part of head_dim ({spec.head_dim}), got {spec.rotated}"
        )
    for name, divisors in _divisors(spec.rope_scaling).items():
        if len(divisors) != spec.rotated // 2:
            raise UnsupportedModel(
                f"{name} must hold {spec.rotated // 2} numbers, half of what is turned of head_dim, got {len(divisors)}"
            )
    if spec.latent is not None and spec.latent.value_dim > spec.head_dim:
        raise UnsupportedModel(
            f"v_head_dim must be at most qk_nope_head_dim + qk_rope_head_dim ({spec.head_dim}), "
            f"got {spec.latent.value_dim}"
        )
    if spec.experts is not None:
        _check_routing(spec.experts.routing)
        if spec.experts.is_packed and (spec.hidden_size % 32 or spec.experts.intermediate_size % 32):
            sizes = f"{spec.hidden_size} and {spec.experts.intermediate_size}"
            raise UnsupportedModel(f"hidden_size and intermediate_size must be multiples of 32 in mxfp4, got {sizes}")
    return spec


def _divisors(scaling: RopeScaling | None) -> dict[str, tuple[float, ...]]:
    """The numbers of a rotary embedding that there is one of for each turned pair, by their names."""
    if isinstance(scaling, DividedRope):
        return {"rope_freqs.weight": scaling.divisors}
    if isinstance(scaling, LongRope):
        return {"rope_scaling.short_factor": scaling.divisors, "rope_scaling.long_factor": scaling.long_divisors}
    return {}


def _check_routing(routing: Routing) -> None:
    if routing.num_experts % routing.groups or routing.num_experts < 2 * routing.groups > 2:
        raise UnsupportedModel(
            f"n_group must divide the experts ({routing.num_experts}) into groups of two or more, got {routing.groups}"
        )
    if not 1 <= routing.top_groups <= routing.groups:
        raise UnsupportedModel(f"topk_group must be from 1 to n_group ({routing.groups}), got {routing.top_groups}")
    most = routing.num_experts // routing.groups * routing.top_groups
    if routing.top_k > most:
        raise UnsupportedModel(f"a token's experts must be at most {most}, those to choose from, got {routing.top_k}")
