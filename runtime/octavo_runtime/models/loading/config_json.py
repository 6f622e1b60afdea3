"""The model that a Hugging Face folder describes in its config.json. Free of torch.

Of its fields, those below are read, with the defaults of transformers. A field that transformers' LlamaConfig and
MistralConfig do not know changes nothing there, so it changes nothing here, but for those of _OTHER_ARITHMETIC."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from octavo_runtime.config.settings import explain
from octavo_runtime.models.loading.end_tokens import folder_end_tokens
from octavo_runtime.models.loading.json_file import read_object
from octavo_runtime.models.spec import LinearRope, Llama3Rope, ModelSpec, RopeScaling, UnsupportedModel, check_shape

_FAMILIES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM"}  # by model_type
SUPPORTED_ARCHITECTURES = tuple(_FAMILIES.values())
SUPPORTED_ROPE = ("default", "linear", "llama3")

# What transformers takes for fields that a config.json leaves out, where it is not the same for all.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "LlamaForCausalLM": {"intermediate_size": 11008, "max_position_embeddings": 2048},
    "MistralForCausalLM": {
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131_072,
        "sliding_window": 4096,
    },
}

# Fields by which other families change the arithmetic, and the values that change nothing (null never does). A
# Llama-shaped checkpoint that sets one was trained with code of its own.
_OTHER_ARITHMETIC: dict[str, tuple[object, ...]] = {
    "alibi": (False,),
    "attention_multiplier": (),  # Granite; no value is neutral for every head_dim
    "attention_sinks": (False,),
    "attn_logit_softcapping": (),
    "attn_temperature_tuning": (False,),
    "compression_config": (),
    "dim_model_base": (),  # MiniCPM
    "embedding_multiplier": (1,),
    "final_logit_softcapping": (),
    "logit_scale": (1,),
    "logits_scaling": (1,),
    "no_rope_layers": ([],),
    "num_experts": (0, 1),
    "num_local_experts": (0, 1),
    "partial_rotary_factor": (1,),
    "qk_layernorm": (False,),
    "qk_norm": (False,),
    "quantization_config": (),
    "query_pre_attn_scalar": (),
    "residual_multiplier": (1,),
    "rope_interleaved": (False,),
    "rotary_pct": (1,),
    "scale_depth": (),  # MiniCPM
    "scale_emb": (1,),
    "use_qk_norm": (False,),
}
_QUANTIZED = ("quantization_config", "compression_config")

_Model = TypeVar("_Model", bound=BaseModel)

# Bounds far beyond any model, below which the engine's arithmetic stays within what memory can hold.
_Size = Annotated[int, Field(ge=1, le=2**24)]
_Layers = Annotated[int, Field(ge=1, le=4096)]
_Positive = Annotated[float, Field(gt=0, le=1e30, allow_inf_nan=False)]
_Token = Annotated[int, Field(ge=0, lt=2**31)]


class _Config(BaseModel):
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
    sliding_window: Annotated[int, Field(ge=1)] | None = None
    rms_norm_eps: _Positive = 1e-6
    rope_theta: _Positive | None = None
    rope_parameters: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None
    hidden_act: str = "silu"
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False


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


def spec_from_folder(folder: Path) -> ModelSpec:
    """ModelSpec of a Hugging Face model folder: its config.json, and the end tokens that its files name. Raises
    UnsupportedModel, which names file, field, bound and value."""
    path = folder / "config.json"
    config = read_object(path)
    try:
        return spec_from_config(config, folder_end_tokens(folder))
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{path}: {error}") from None


def spec_from_config(config: Mapping[str, Any], eos_token_ids: tuple[int, ...] = ()) -> ModelSpec:
    """ModelSpec of a config.json's content; UnsupportedModel where the decoder cannot compute it."""
    architecture = _architecture(config)
    _refuse_other_arithmetic(config)
    fields = _validated(_Config, {**_DEFAULTS[architecture], **config})
    if fields.hidden_act != "silu":
        raise UnsupportedModel(f"hidden_act must be silu, got {fields.hidden_act}")
    if fields.head_dim is None and fields.hidden_size % fields.num_attention_heads:
        raise UnsupportedModel(
            f"num_attention_heads must divide hidden_size ({fields.hidden_size}), got {fields.num_attention_heads}"
        )
    theta, scaling = _rope(fields)
    return check_shape(
        ModelSpec(
            vocab_size=fields.vocab_size,
            hidden_size=fields.hidden_size,
            intermediate_size=fields.intermediate_size,
            num_layers=fields.num_hidden_layers,
            num_heads=fields.num_attention_heads,
            num_kv_heads=fields.num_key_value_heads or fields.num_attention_heads,
            head_dim=fields.head_dim or fields.hidden_size // fields.num_attention_heads,
            max_position=_max_position(fields, config),
            rms_norm_eps=fields.rms_norm_eps,
            rope_theta=theta,
            rope_scaling=scaling,
            tie_embeddings=fields.tie_word_embeddings,
            attention_bias=fields.attention_bias,
            mlp_bias=fields.mlp_bias,
            eos_token_ids=eos_token_ids,
        )
    )


def _architecture(config: Mapping[str, Any]) -> str:
    named = config.get("architectures") or _FAMILIES.get(str(config.get("model_type")), "unknown")
    architecture = named[0] if isinstance(named, list) else named
    if architecture not in SUPPORTED_ARCHITECTURES:
        raise UnsupportedModel(
            f"architecture must be one of {', '.join(SUPPORTED_ARCHITECTURES)}, got {_shown(architecture)}"
        )
    return str(architecture)


def _refuse_other_arithmetic(config: Mapping[str, Any]) -> None:
    for name, neutral in _OTHER_ARITHMETIC.items():
        value = config.get(name)
        if value is None or value in neutral:
            continue
        if name in _QUANTIZED:
            method = value.get("quant_method") if isinstance(value, dict) else value
            raise UnsupportedModel(
                f"{name} must be unset: safetensors are read as F32, F16 or BF16, and fewer bits from GGUF files "
                f"(Q8_0, Q4_0, Q4_1); got {_shown(method)}"
            )
        bound = " or ".join(["unset", *map(_shown, neutral)])
        raise UnsupportedModel(f"{name} must be {bound}, got {_shown(value)}")


def _max_position(fields: _Config, config: Mapping[str, Any]) -> int:
    """As far as the model's attention reaches all that came before, which is how the decoder attends."""
    if fields.sliding_window is None or config.get("use_sliding_window") is False:
        return fields.max_position_embeddings
    return min(fields.max_position_embeddings, fields.sliding_window)


def _rope(fields: _Config) -> tuple[float, RopeScaling | None]:
    """Base and scaling of the rotary embedding, from whichever fields hold them."""
    where = "rope_parameters" if fields.rope_parameters else "rope_scaling"
    given = fields.rope_parameters or fields.rope_scaling or {}
    named = given.get("rope_type") or given.get("type") or "default"
    if named not in SUPPORTED_ROPE:
        raise UnsupportedModel(f"rope type must be one of {', '.join(SUPPORTED_ROPE)}, got {_shown(named)}")
    rope = _validated(_Rope, given, where)
    if rope.partial_rotary_factor not in (None, 1):
        raise UnsupportedModel(f"{where}.partial_rotary_factor must be 1, got {rope.partial_rotary_factor}")
    theta = rope.rope_theta or fields.rope_theta or 10000.0
    if named == "default":
        return theta, None
    if rope.factor is None:
        raise UnsupportedModel(f"{where}.factor must be given for rope type {named}")
    if named == "linear":
        return theta, LinearRope(rope.factor)
    low, high = rope.low_freq_factor, rope.high_freq_factor
    if low is None or high is None or low >= high:
        raise UnsupportedModel(f"{where}.low_freq_factor must be below high_freq_factor, got {low} and {high}")
    original = fields.original_max_position_embeddings or rope.original_max_position_embeddings
    return theta, Llama3Rope(rope.factor, low, high, original or fields.max_position_embeddings)


def _validated(model: type[_Model], values: Mapping[str, Any], where: str = "") -> _Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = f"{where}.{explain(error)}" if where else explain(error)
        raise UnsupportedModel(textwrap.shorten(problem, 300, placeholder=" ...")) from None


def _shown(value: object) -> str:
    """A value for a message, at most some words of it."""
    return textwrap.shorten(value if isinstance(value, str) else repr(value), 60, placeholder=" ...")
