"""The fields of a config.json that are read, with their bounds, and transformers' defaults where all families share
them. Free of torch."""

import math
import textwrap
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from octavo_runtime.config.explain import explain
from octavo_runtime.layers.rope_scaling import LinearRope, Llama3Rope, LongRope, RopeScaling, YarnRope
from octavo_runtime.models.spec import UnsupportedModel

SUPPORTED_ROPE = ("default", "linear", "llama3", "yarn", "longrope")

_Model = TypeVar("_Model", bound=BaseModel)

# Bounds far beyond any model, below which the engine's arithmetic stays within what memory can hold.
_Size = Annotated[int, Field(ge=1, le=2**24)]
_Layers = Annotated[int, Field(ge=1, le=4096)]
_Count = Annotated[int, Field(ge=0, le=2**24)]
_Positive = Annotated[float, Field(gt=0, le=1e30, allow_inf_nan=False)]
_Token = Annotated[int, Field(ge=0, lt=2**31)]


class ConfigFields(BaseModel):
    """The fields of config.json that are read."""

    model_config = ConfigDict(strict=True)

    vocab_size: _Size = 32000
    hidden_size: _Size = 4096
    intermediate_size: _Size
    num_hidden_layers: _Layers = 32
    num_attention_heads: _Size = 32
    num_key_value_heads: _Size | None = None
    head_dim: _Size | None = None
    max_position_embeddings: Annotated[int, Field(ge=1, lt=2**31)]
    original_max_position_embeddings: _Size | None = None
    sliding_window: Annotated[int, Field(ge=0)] | None = None  # 0 where use_sliding_window says that there is none
    use_sliding_window: bool | None = None
    max_window_layers: Annotated[int, Field(ge=0)] = 28
    layer_types: list[str] | None = None
    rms_norm_eps: _Positive = 1e-6
    layer_norm_eps: _Positive = 1e-5
    norm_epsilon: _Positive = 1e-5
    norm_eps: _Positive = 1e-5
    rope_theta: _Positive | None = None
    rope_parameters: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None
    partial_rotary_factor: Annotated[float, Field(gt=0, le=1)] | None = None
    rope_local_base_freq: _Positive | None = None
    inner_size: _Size | None = None  # of the MLP; None: four times hidden_size
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
    num_ln_in_parallel_attn: _Size | None = None
    word_embed_proj_dim: _Size | None = None
    do_layer_norm_before: bool = True
    apply_residual_connection_post_layernorm: bool = False
    alibi: bool | None = None
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    no_rope_layers: list[int] | None = None
    no_rope_layer_interval: _Layers = 4
    attention_multiplier: _Positive = 1.0
    embedding_multiplier: _Positive = 1.0
    residual_multiplier: _Positive = 1.0
    logits_scaling: _Positive = 1.0
    logit_scale: _Positive = 0.0625
    query_pre_attn_scalar: _Positive = 256
    attn_logit_softcapping: _Positive | None = None
    final_logit_softcapping: _Positive | None = None
    sliding_window_pattern: _Layers = 6
    qkv_bias: bool = True
    use_qk_norm: bool = False
    qk_layernorm: bool = False
    lm_head_bias: bool = False
    rotary_dim: _Size | None = None
    # Of mixtures of experts. Each family has names of its own for the same.
    num_experts: _Count | list[_Count] = 0
    num_local_experts: _Count = 0
    n_routed_experts: _Count = 0
    moe_num_experts: _Count = 0
    num_experts_per_tok: _Size = 2
    moe_k: _Size = 6
    moe_topk: _Size | list[_Size] = 1
    moe_intermediate_size: _Size | list[_Size] | None = None
    shared_expert_intermediate_size: _Count = 0
    shared_intermediate_size: _Count = 0
    n_shared_experts: _Count = 0
    moe_num_shared_experts: _Count = 0
    norm_topk_prob: bool = False
    routed_scaling_factor: _Positive = 1.0
    n_group: _Size | None = 1
    topk_group: _Size | None = 1
    topk_method: str | None = None
    scoring_func: str | None = None
    moe_layer_freq: _Layers = 1
    mlp_layer_types: list[str] | None = None
    moe_norm_min: _Positive = 1e-12
    router_jitter_noise: Annotated[float, Field(ge=0, le=1)] = 0.01
    decoder_sparse_step: _Layers = 1
    mlp_only_layers: list[int] | None = None
    first_k_dense_replace: _Count = 0
    moe_layer_start_index: _Count = 0
    moe_layer_end_index: Annotated[int, Field(ge=-1, le=4096)] = -1
    moe_layer_interval: _Layers = 1
    num_nextn_predict_layers: _Count | None = None
    swiglu_limit: _Positive = 7.0
    # Of latent attention.
    kv_lora_rank: _Size = 512
    q_lora_rank: _Size | None = None
    qk_nope_head_dim: _Size = 128
    qk_rope_head_dim: _Size = 64
    v_head_dim: _Size | None = None
    rope_interleave: bool = True
    # MiniCPM's scales.
    scale_emb: _Positive = 12
    scale_depth: _Positive | None = 1.4
    dim_model_base: _Size | None = 256
    quantization_config: dict[str, Any] | None = None
    # Of encoders, and of models that score texts.
    type_vocab_size: _Size = 2
    embedding_size: _Size | None = None
    pad_token_id: int | None = None
    position_embedding_type: str | None = "absolute"
    is_decoder: bool = False
    num_labels: _Size | None = None  # of the scores, where a model gives a text scores
    norm_bias: bool = False
    local_attention: _Size = 128  # tokens of a window, half of them to either side
    global_attn_every_n_layers: _Layers = 3
    global_rope_theta: _Positive = 160_000.0
    local_rope_theta: _Positive = 10_000.0
    classifier_pooling: str = "cls"
    classifier_activation: str = "gelu"
    classifier_bias: bool = False


class _Rope(BaseModel):
    """rope_parameters, or rope_scaling in older files. What else they hold would change the arithmetic."""

    model_config = ConfigDict(strict=True, extra="forbid")

    rope_type: str | None = None
    type: str | None = None
    rope_theta: _Positive | None = None
    partial_rotary_factor: float | None = None
    original_max_position_embeddings: _Size | None = None
    factor: _Positive | None = None
    low_freq_factor: _Positive | None = None
    high_freq_factor: _Positive | None = None
    beta_fast: _Positive | None = None
    beta_slow: _Positive | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    attention_factor: _Positive | None = None
    truncate: bool = True
    short_factor: list[_Positive] | None = None
    long_factor: list[_Positive] | None = None


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


def rope(fields: ConfigFields) -> tuple[float, RopeScaling | None]:
    """Base and scaling of the rotary embedding, from whichever fields hold them."""
    where = "rope_parameters" if fields.rope_parameters else "rope_scaling"
    given = fields.rope_parameters or fields.rope_scaling or {}
    named = given.get("rope_type") or given.get("type") or "default"
    named = "longrope" if named == "su" else named  # its older name
    if named not in SUPPORTED_ROPE:
        raise UnsupportedModel(f"rope type must be one of {', '.join(SUPPORTED_ROPE)}, got {shown(named)}")
    found = validated(_Rope, given, where)
    if found.partial_rotary_factor not in (None, 1):
        raise UnsupportedModel(f"{where}.partial_rotary_factor must be 1, got {found.partial_rotary_factor}")
    theta = found.rope_theta or fields.rope_theta or 10000.0
    if named == "default":
        return theta, None
    if named == "longrope":
        return theta, _longrope(found, fields, where)
    if found.factor is None:
        raise UnsupportedModel(f"{where}.factor must be given for rope type {named}")
    if named == "linear":
        return theta, LinearRope(found.factor)
    original = _original(found, fields)
    if named == "yarn":
        return theta, _yarn(found, found.factor, original)
    low, high = found.low_freq_factor, found.high_freq_factor
    if low is None or high is None or low >= high:
        raise UnsupportedModel(f"{where}.low_freq_factor must be below high_freq_factor, got {low} and {high}")
    return theta, Llama3Rope(found.factor, low, high, original)


def with_rope_of_kind(fields: ConfigFields, kind: str) -> ConfigFields:
    """The fields with rope_parameters of one kind of layers, where they have an object for each."""
    found = (fields.rope_parameters or {}).get(kind)
    if found is not None and not isinstance(found, dict):
        raise UnsupportedModel(f"rope_parameters.{kind} must be an object, got {shown(found)}")
    return fields.model_copy(update={"rope_parameters": found})


def plain_rope_of_kind(fields: ConfigFields, kind: str, theta: float) -> float:
    """The base of the rotary embedding of a kind of layers whose embedding is not scaled. theta: where rope_parameters
    do not say."""
    found = fields.model_copy(update={"rope_scaling": None, "rope_theta": theta})
    theta, scaling = rope(with_rope_of_kind(found, kind))
    if scaling is not None:
        raise UnsupportedModel(f"rope_parameters.{kind} must be of rope type default")
    return theta


def _original(found: _Rope, fields: ConfigFields) -> int:
    """The longest context of the first training."""
    given = fields.original_max_position_embeddings or found.original_max_position_embeddings
    return given or fields.max_position_embeddings


def _longrope(found: _Rope, fields: ConfigFields, where: str) -> LongRope:
    """With transformers' defaults (modeling_rope_utils)."""
    if not found.short_factor or not found.long_factor:
        raise UnsupportedModel(f"{where}.short_factor and long_factor must be given for rope type longrope")
    original = _original(found, fields)
    factor = found.factor or fields.max_position_embeddings / original
    implied = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    scale = found.attention_factor or implied
    return LongRope(tuple(found.short_factor), scale, original, tuple(found.long_factor), scale)


def partial_rotary(fields: ConfigFields, default: float = 1.0) -> tuple[ConfigFields, float]:
    """The share of a head that is turned, for families that turn a part of it, and the fields without it."""
    where = "rope_parameters" if fields.rope_parameters else "rope_scaling"
    given = dict(getattr(fields, where) or {})
    share = given.pop("partial_rotary_factor", None) or fields.partial_rotary_factor or default
    if not isinstance(share, int | float) or not 0 < share <= 1:
        raise UnsupportedModel(f"{where}.partial_rotary_factor must be above 0 and at most 1, got {shown(share)}")
    return fields.model_copy(update={where: given or None}), share


def _yarn(found: _Rope, factor: float, original: int) -> YarnRope:
    """With transformers' defaults (modeling_rope_utils)."""

    def amplitude(mscale: float) -> float:
        return 0.1 * mscale * math.log(factor) + 1 if factor > 1 else 1.0

    implied = amplitude(1.0)
    if found.mscale and found.mscale_all_dim:
        implied = amplitude(found.mscale) / amplitude(found.mscale_all_dim)
    return YarnRope(
        factor=factor,
        original_max_position=original,
        beta_fast=found.beta_fast or 32.0,
        beta_slow=found.beta_slow or 1.0,
        attention_factor=found.attention_factor or implied,
        truncate=found.truncate,
    )


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
