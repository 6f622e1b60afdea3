"""The model that a Hugging Face folder describes in its config.json. Free of torch.

A field that transformers' configuration of a family does not know changes nothing there, so it changes nothing here,
but for those of _OTHER_ARITHMETIC."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from octavo_runtime.models.config_fields import ConfigFields, shown, validated
from octavo_runtime.models.families import FAMILIES
from octavo_runtime.models.family import Family
from octavo_runtime.models.loading.end_tokens import folder_end_tokens
from octavo_runtime.models.loading.json_file import read_object
from octavo_runtime.models.loading.nearest import nearest
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel, check_shape
from octavo_runtime.quantization.configuration import scheme_of
from octavo_runtime.quantization.scheme import Scheme, UnsupportedQuantization

# Fields by which other families change the arithmetic, and the values that change nothing (null never does). A
# Llama-shaped checkpoint that sets one was trained with code of its own.
_OTHER_ARITHMETIC: dict[str, tuple[object, ...]] = {
    "_remove_final_layer_norm": (False,),  # OPT
    "alibi": (False,),
    "attention_multiplier": (),  # Granite; no value is neutral for every head_dim
    "attention_sinks": (False,),
    "attn_logit_softcapping": (),
    "attn_temperature_tuning": (False,),
    "clip_qkv": (),
    "dim_model_base": (),  # MiniCPM
    "embedding_multiplier": (1,),
    "final_logit_softcapping": (),
    "layer_norm_elementwise_affine": (True,),  # OPT
    "logit_scale": (1,),
    "logits_scaling": (1,),
    "no_rope_layers": ([],),
    "num_experts": (0, 1),
    "num_local_experts": (0, 1),
    "partial_rotary_factor": (1,),
    "qk_layernorm": (False,),
    "qk_norm": (False,),
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
# Of a checkpoint in fewer bits; the second as older versions of compressed-tensors call it.
_QUANTIZED = ("quantization_config", "compression_config")
_BESIDE = "quantize_config.json"  # where AutoGPTQ once wrote it

# What transformers names a model by what it is for: the same one brings hidden states, scores of a text, or words.
_SCORES = "ForSequenceClassification"
_ENDS = (_SCORES, "ForMaskedLM", "ForCausalLM", "Model")
_USUAL_LABELS = 2  # where a config.json says nothing of them


def spec_from_folder(folder: Path) -> ModelSpec:
    """ModelSpec of a Hugging Face model folder: its config.json, and the end tokens that its files name. Raises
    UnsupportedModel, which names file, field, bound and value."""
    path = folder / "config.json"
    config = read_object(path)
    if not any(config.get(name) for name in _QUANTIZED) and (folder / _BESIDE).is_file():
        config = {**config, _QUANTIZED[0]: read_object(folder / _BESIDE)}
    try:
        return spec_from_config(config, folder_end_tokens(folder))
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{path}: {error}") from None


def spec_from_config(config: Mapping[str, Any], eos_token_ids: tuple[int, ...] = ()) -> ModelSpec:
    """ModelSpec of a config.json's content; UnsupportedModel where the decoder cannot compute it."""
    config = _text(config)
    family = _family(config)
    _refuse_other_arithmetic(config, family)
    labels = len(label_names(config)) if str(_named(config)).endswith(_SCORES) else None
    named = {family.renamed.get(name, name): value for name, value in config.items()}
    fields = validated(ConfigFields, {**family.defaults, **named, "num_labels": labels})
    spec = family.spec(fields, eos_token_ids)
    if labels is not None:  # the head for words is not in the checkpoint, and nobody needs it
        spec = replace(spec, labels=labels, tie_embeddings=True, head_bias=False)
    return replace(check_shape(spec), quantization=_quantization(config, family))


def label_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the scores that a model gives a text, in their order. Raises UnsupportedModel."""
    named, count = config.get("id2label"), config.get("num_labels", _USUAL_LABELS)
    if isinstance(named, dict) and named:
        numbers = [str(number) for number in range(len(named))]
        if set(named) != set(numbers) or not all(isinstance(name, str) for name in named.values()):
            raise UnsupportedModel(f"id2label must be names by the numbers from 0 on, got {shown(named)}")
        return tuple(named[number] for number in numbers)
    if not isinstance(count, int) or not 1 <= count <= 2**16:
        raise UnsupportedModel(f"num_labels must be from 1 to {2**16}, got {shown(count)}")
    return tuple(f"LABEL_{number}" for number in range(count))


def _quantization(config: Mapping[str, Any], family: Family) -> Scheme | None:
    """How the weights are stored; None where they are as they are, or the family reads that itself."""
    name = next((name for name in _QUANTIZED if config.get(name) is not None and name not in family.reads), None)
    if name is None:
        return None
    if not isinstance(config[name], dict):
        raise UnsupportedModel(f"{name} must be an object, got {shown(config[name])}")
    try:
        return scheme_of(
            {"quant_method": "compressed-tensors"} | config[name] if name != _QUANTIZED[0] else config[name]
        )
    except UnsupportedQuantization as error:
        raise UnsupportedModel(str(error)) from None


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
    by_stem = {_stem(family.architecture): family for family in FAMILIES.values()}
    named = _named(config)
    family = None
    if isinstance(named, str):
        family = (by_type | FAMILIES).get(named) or (by_stem.get(_stem(named)) if named.endswith(_ENDS) else None)
    if family is None:
        wrapped = [family.with_pictures[0] for family in FAMILIES.values() if family.with_pictures is not None]
        known = _by_ending([*FAMILIES, *wrapped])
        got = shown(named or "unknown")
        raise UnsupportedModel(f"architecture must be one of {known}, got {got}{nearest(got, FAMILIES)}")
    return family


def _stem(architecture: str) -> str:
    """Bert for BertModel and BertForSequenceClassification."""
    ending = next((end for end in _ENDS if architecture.endswith(end)), "")
    return architecture.removesuffix(ending)


def _by_ending(architectures: list[str]) -> str:
    """Llama, Qwen2 (ForCausalLM), Gemma3 (ForConditionalGeneration)."""
    endings: dict[str, list[str]] = {}
    for name in architectures:
        stem = name.removesuffix("Model").partition("For")[0]
        endings.setdefault(name.removeprefix(stem), []).append(stem)
    return ", ".join(f"{', '.join(names)} ({ending})" for ending, names in endings.items())


def _refuse_other_arithmetic(config: Mapping[str, Any], family: Family) -> None:
    for name, neutral in _OTHER_ARITHMETIC.items():
        value = config.get(name)
        if value is None or value in neutral or name in family.reads:
            continue
        bound = " or ".join(["unset", *map(shown, neutral)])
        raise UnsupportedModel(f"{name} must be {bound}, got {shown(value)}")
