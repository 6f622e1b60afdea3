"""The model that a Hugging Face folder describes in its config.json. Free of torch.

A field that transformers' configuration of a family does not know changes nothing there, so it changes nothing here,
but for those of _OTHER_ARITHMETIC."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from octavo_runtime.models.config_fields import ConfigFields, shown, validated
from octavo_runtime.models.families import FAMILIES
from octavo_runtime.models.family import Family
from octavo_runtime.models.loading.end_tokens import folder_end_tokens
from octavo_runtime.models.loading.json_file import read_object
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel, check_shape

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
    "rope_local_base_freq": (),
    "rotary_pct": (1,),
    "scale_depth": (),  # MiniCPM
    "scale_emb": (1,),
    "use_bidirectional_attention": (False,),
    "use_qk_norm": (False,),
}
_QUANTIZED = ("quantization_config", "compression_config")


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
    config = _text(config)
    family = _family(config)
    _refuse_other_arithmetic(config, family)
    fields = validated(ConfigFields, {**family.defaults, **config})
    return check_shape(family.spec(fields, eos_token_ids))


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of the text model, where it stands inside that of one that sees pictures."""
    for family in FAMILIES.values():
        if family.with_pictures is not None and _named(config) in family.with_pictures:
            text = config.get("text_config")
            if not isinstance(text, dict) or text.get("model_type", family.model_type) != family.model_type:
                found = text.get("model_type") if isinstance(text, dict) else text
                raise UnsupportedModel(f"text_config.model_type must be {family.model_type}, got {shown(found)}")
            outer = {name: config[name] for name in _QUANTIZED if name in config}
            return {**outer, **text, "architectures": [family.architecture]}
    return config


def _named(config: Mapping[str, Any]) -> object:
    """The architecture that a configuration names, or else its model_type."""
    named = config.get("architectures") or config.get("model_type")
    return named[0] if isinstance(named, list) else named


def _family(config: Mapping[str, Any]) -> Family:
    by_type = {family.model_type: family for family in FAMILIES.values()}
    named = _named(config)
    family = (by_type | FAMILIES).get(named) if isinstance(named, str) else None
    if family is None:
        wrapped = [family.with_pictures[0] for family in FAMILIES.values() if family.with_pictures is not None]
        known = _by_ending([*FAMILIES, *wrapped])
        raise UnsupportedModel(f"architecture must be one of {known}, got {shown(named or 'unknown')}")
    return family


def _by_ending(architectures: list[str]) -> str:
    """Llama, Qwen2 (ForCausalLM), Gemma3 (ForConditionalGeneration)."""
    endings: dict[str, list[str]] = {}
    for name, _, ending in (name.partition("For") for name in architectures):
        endings.setdefault(f"For{ending}", []).append(name)
    return ", ".join(f"{', '.join(names)} ({ending})" for ending, names in endings.items())


def _refuse_other_arithmetic(config: Mapping[str, Any], family: Family) -> None:
    for name, neutral in _OTHER_ARITHMETIC.items():
        value = config.get(name)
        if value is None or value in neutral or name in family.reads:
            continue
        if name in _QUANTIZED:
            method = value.get("quant_method") if isinstance(value, dict) else value
            raise UnsupportedModel(
                f"{name} must be unset: safetensors are read as F32, F16 or BF16, and fewer bits from GGUF files "
                f"(Q8_0, Q4_0, Q4_1); got {shown(method)}"
            )
        bound = " or ".join(["unset", *map(shown, neutral)])
        raise UnsupportedModel(f"{name} must be {bound}, got {shown(value)}")
