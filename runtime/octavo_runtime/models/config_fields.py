"""The fields of a config.json that are read, with their bounds, and transformers' defaults where all families share
them. Free of torch."""

import textwrap
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from octavo_runtime.config.explain import explain
from octavo_runtime.models.spec import UnsupportedModel

_Model = TypeVar("_Model", bound=BaseModel)

# Bounds far beyond any model, below which the engine's arithmetic stays within what memory can hold.
Size = Annotated[int, Field(ge=1, le=2**24)]
_Layers = Annotated[int, Field(ge=1, le=4096)]
_Count = Annotated[int, Field(ge=0, le=2**24)]
Positive = Annotated[float, Field(gt=0, le=1e30, allow_inf_nan=False)]


class ConfigFields(BaseModel):
    """The fields of config.json that are read."""

    model_config = ConfigDict(strict=True)

    vocab_size: Size = 32000
    hidden_size: Size = 4096
    intermediate_size: Size
    num_hidden_layers: _Layers = 32
    num_attention_heads: Size = 32
    num_key_value_heads: Size | None = None
    head_dim: Size | None = None
    max_position_embeddings: Annotated[int, Field(ge=1, lt=2**31)]
    original_max_position_embeddings: Size | None = None
    sliding_window: Annotated[int, Field(ge=0)] | None = None  # 0 where use_sliding_window says that there is none
    use_sliding_window: bool | None = None
    max_window_layers: Annotated[int, Field(ge=0)] = 28
    layer_types: list[str] | None = None
    rms_norm_eps: Positive = 1e-6
    layer_norm_eps: Positive = 1e-5
    norm_epsilon: Positive = 1e-5
    norm_eps: Positive = 1e-5
    rope_theta: Positive | None = None
    rope_parameters: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None
    partial_rotary_factor: Annotated[float, Field(gt=0, le=1)] | None = None
    rope_local_base_freq: Positive | None = None
    inner_size: Size | None = None  # of the MLP; None: four times hidden_size
    hidden_act: str = "silu"
    hidden_activation: str | None = None
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    attention_out_bias: bool = False
    mlp_bias: bool = False
    use_bias: bool = False
    use_qkv_bias: bool = False
    use_parallel_residual: bool = False
    new_decoder_architecture: bool = False
    multi_query: bool = True
    parallel_attn: bool = True
    num_ln_in_parallel_attn: Size | None = None
    word_embed_proj_dim: Size | None = None
    do_layer_norm_before: bool = True
    apply_residual_connection_post_layernorm: bool = False
    alibi: bool | None = None
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    no_rope_layers: list[int] | None = None
    no_rope_layer_interval: _Layers = 4
    attention_multiplier: Positive = 1.0
    embedding_multiplier: Positive = 1.0
    residual_multiplier: Positive = 1.0
    logits_scaling: Positive = 1.0
    logit_scale: Positive = 0.0625
    query_pre_attn_scalar: Positive = 256
    attn_logit_softcapping: Positive | None = None
    final_logit_softcapping: Positive | None = None
    sliding_window_pattern: _Layers = 6
    qkv_bias: bool = True
    use_qk_norm: bool = False
    qk_layernorm: bool = False
    lm_head_bias: bool = False
    rotary_dim: Size | None = None
    # Of mixtures of experts. Each family has names of its own for the same.
    num_experts: _Count | list[_Count] = 0
    num_local_experts: _Count = 0
    n_routed_experts: _Count = 0
    moe_num_experts: _Count = 0
    num_experts_per_tok: Size = 2
    moe_k: Size = 6
    moe_topk: Size | list[Size] = 1
    moe_intermediate_size: Size | list[Size] | None = None
    shared_expert_intermediate_size: _Count = 0
    shared_intermediate_size: _Count = 0
    n_shared_experts: _Count = 0
    moe_num_shared_experts: _Count = 0
    norm_topk_prob: bool = False
    routed_scaling_factor: Positive = 1.0
    n_group: Size | None = 1
    topk_group: Size | None = 1
    topk_method: str | None = None
    scoring_func: str | None = None
    moe_layer_freq: _Layers = 1
    mlp_layer_types: list[str] | None = None
    moe_norm_min: Positive = 1e-12
    router_jitter_noise: Annotated[float, Field(ge=0, le=1)] = 0.01
    decoder_sparse_step: _Layers = 1
    mlp_only_layers: list[int] | None = None
    first_k_dense_replace: _Count = 0
    moe_layer_start_index: _Count = 0
    moe_layer_end_index: Annotated[int, Field(ge=-1, le=4096)] = -1
    moe_layer_interval: _Layers = 1
    num_nextn_predict_layers: Annotated[int, Field(ge=0, le=4096)] | None = None
    swiglu_limit: Positive = 7.0
    # Of latent attention.
    kv_lora_rank: Size = 512
    q_lora_rank: Size | None = None
    qk_nope_head_dim: Size = 128
    qk_rope_head_dim: Size = 64
    v_head_dim: Size | None = None
    rope_interleave: bool = True
    # MiniCPM's scales.
    scale_emb: Positive = 12
    scale_depth: Positive | None = 1.4
    dim_model_base: Size | None = 256
    quantization_config: dict[str, Any] | None = None
    # Of encoders, and of models that score texts.
    type_vocab_size: Size = 2
    embedding_size: Size | None = None
    pad_token_id: int | None = None
    position_embedding_type: str | None = "absolute"
    is_decoder: bool = False
    num_labels: Size | None = None  # of the scores, where a model gives a text scores
    norm_bias: bool = False
    local_attention: Size = 128  # tokens of a window, half of them to either side
    global_attn_every_n_layers: _Layers = 3
    global_rope_theta: Positive = 160_000.0
    local_rope_theta: Positive = 10_000.0
    classifier_pooling: str = "cls"
    classifier_activation: str = "gelu"
    classifier_bias: bool = False


def one_for_all(value: int | list[int], name: str) -> int:
    """A number that may be given layer by layer, but is the same for all."""
    values = set(value) if isinstance(value, list) else {value}
    if len(values) != 1:
        raise UnsupportedModel(f"{name} must be the same for all layers, got {shown(value)}")
    return values.pop()


def windowed(fields: ConfigFields, is_windowed: Callable[[int], bool]) -> frozenset[int]:
    """The layers of sliding attention: those that layer_types names, else those that the family's rule names."""
    layers, kinds = fields.num_hidden_layers, fields.layer_types
    if kinds is None:
        return frozenset(filter(is_windowed, range(layers)))
    if len(kinds) != layers:
        raise UnsupportedModel(f"layer_types must have num_hidden_layers ({layers}) entries, got {len(kinds)}")
    for kind in kinds:
        if kind not in ("full_attention", "sliding_attention"):
            raise UnsupportedModel(f"layer_types must be of full_attention and sliding_attention, got {shown(kind)}")
    found = frozenset(layer for layer, kind in enumerate(kinds) if kind == "sliding_attention")
    if found and fields.sliding_window is None:
        raise UnsupportedModel("sliding_window must be given for layer_types of sliding_attention, got none")
    return found


def validated(model: type[_Model], values: Mapping[str, Any], where: str = "") -> _Model:
    """The values as a model. Raises UnsupportedModel, which names the field, below `where`."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = f"{where}.{explain(error)}" if where else explain(error)
        raise UnsupportedModel(textwrap.shorten(problem, 300, placeholder=" ...")) from None


def shown(value: object) -> str:
    """A value for a message, at most some words of it."""
    return textwrap.shorten(value if isinstance(value, str) else repr(value), 60, placeholder=" ...")
