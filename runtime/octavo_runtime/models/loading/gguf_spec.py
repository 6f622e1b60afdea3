"""The model that a GGUF file describes in its metadata (format: github.com/ggml-org/ggml, docs/gguf.md). Free of torch.

The metadata become the fields of a config.json of the same family, and these its ModelSpec. Every key of the
architecture's own (`llama.*`) is either read in `gguf_keys`, or by the family, or in the list there of those that
change nothing; others are refused."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gguf
from pydantic import ValidationError

from octavo_runtime.config.explain import explain
from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.families import FAMILIES
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.loading.end_tokens import gguf_end_tokens
from octavo_runtime.models.loading.gguf_keys import Metadata, own_keys, read_keys, validated
from octavo_runtime.models.loading.gguf_latents import LATENT_KEYS, LatentMetadata, latent_fields, with_log_multiplier
from octavo_runtime.models.loading.gguf_parts import metadata, spellings
from octavo_runtime.models.loading.gguf_rope import Tensors, with_rope
from octavo_runtime.models.loading.gguf_scheme import block_scheme
from octavo_runtime.models.loading.nearest import nearest
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel, check_shape
from octavo_runtime.models.tensor_names import ExpertNames

# The experts of all families, below `blk.N.`; each projection's are one tensor.
EXPERTS = ExpertNames(
    router="ffn_gate_inp.weight",
    correction="exp_probs_b.bias",
    gate_up=("ffn_gate_exps.weight", "ffn_up_exps.weight"),
    down="ffn_down_exps.weight",
    shared_gate_up=("ffn_gate_shexp", "ffn_up_shexp"),
    shared_down="ffn_down_shexp",
    shared_gate="ffn_gate_inp_shexp",
    router_bias="ffn_gate_inp.bias",
    biases=("ffn_gate_up_exps.bias", "ffn_down_exps.bias"),
)
PACKED_EXPERTS = replace(EXPERTS, gate_up=("ffn_gate_up_exps.weight",))
SINKS = "attn_sinks.weight"
_FUSED_QKV = "blk.0.attn_qkv.weight"


def gguf_spec(parts: Sequence[gguf.GGUFReader]) -> ModelSpec:
    """ModelSpec of the opened parts of a GGUF file; UnsupportedModel where the decoder cannot compute it."""
    first = parts[0]
    architecture, kind = metadata(first, "general.architecture"), metadata(first, "general.type") or "model"
    family, form = gguf_family(parts)
    if kind != "model":
        raise UnsupportedModel(f"general.type must be model, got {kind}")
    tensors = {tensor.name: tensor for part in parts for tensor in part.tensors}
    if "token_embd.weight" not in tensors:
        raise UnsupportedModel("the GGUF file has no tensor token_embd.weight")
    if len(shape := tensors["token_embd.weight"].shape) != 2:
        raise UnsupportedModel(f"token_embd.weight: must be a matrix, got {len(shape)} dimensions")
    own = f"{architecture}."
    values = own_keys(first, own)
    of_family = {name: values.pop(name) for name in form.keys if name in values}
    of_latents = {name: values.pop(name) for name in LATENT_KEYS if form.is_latent and name in values}
    fields = read_keys(values, form, own)
    implied = _implied(fields, form, tensors)
    latents = validated(LatentMetadata, of_latents, own) if form.is_latent else None
    if latents is not None:
        implied |= latent_fields(latents, implied["head_dim"], fields.value_length, fields.rope_dimensions or 0)
    given = {form.keys[name]: value for name, value in of_family.items()}
    implied["num_hidden_layers"] -= given.get("num_nextn_predict_layers") or 0  # they stand behind the others
    config = _config({**family.defaults, **implied, **form.implied, **given}, form, own)
    spec = _with_tensors(family.spec(config, end_tokens(first)), tensors, form)
    spec = with_rope(spec, fields, form, tensors, own)
    if latents is not None:
        spec = with_log_multiplier(spec, latents.log_multiplier)
    if fields.sliding_window and form.is_windowed is None:
        spec = replace(spec, max_position=min(spec.max_position, fields.sliding_window))
    elif fields.sliding_window:
        slides = implied["layer_types"]
        layers = [
            layer
            for layer in range(spec.num_layers)
            if (form.is_windowed and form.is_windowed(layer) if slides is None else "sliding" in slides[layer])
        ]
        spec = replace(spec, window=fields.sliding_window, windowed_layers=frozenset(layers))
    spec = form.complete(spec)
    has_packed_experts = spec.experts is not None and spec.experts.is_packed
    return check_shape(replace(spec, quantization=block_scheme(tensors, has_packed_experts=has_packed_experts)))


def gguf_family(parts: Sequence[gguf.GGUFReader]) -> tuple[Family, GGUFForm]:
    """The family that a file's architecture stands for, by its parts. Raises UnsupportedModel."""
    first = parts[0]
    architecture = metadata(first, "general.architecture")
    known = [(family, family.gguf) for family in FAMILIES.values() if family.gguf is not None]
    found = [(family, form) for family, form in known if form.architecture == architecture]
    if not found:
        names = dict.fromkeys(form.architecture for _, form in known)
        raise UnsupportedModel(
            f"general.architecture must be one of {', '.join(names)}, got {architecture}"
            + nearest(str(architecture), names)
        )
    keys = own_keys(first, f"{architecture}.")
    tensors = {tensor.name for part in parts for tensor in part.tensors}
    marked = [each for each in found if each[1].is_marked is not None and each[1].is_marked(keys, tensors)]
    return (marked or [each for each in found if each[1].is_marked is None])[0]


def end_tokens(reader: gguf.GGUFReader) -> tuple[int, ...]:
    """The tokens that end an answer."""
    ids = {name: field.contents() for name, field in reader.fields.items() if name.endswith("_token_id")}
    return gguf_end_tokens(ids, spellings(reader))


def _implied(fields: Metadata, form: GGUFForm, tensors: Tensors) -> dict[str, Any]:
    """The fields of a config.json that all architectures fill."""
    epsilon = fields.rms_epsilon or fields.epsilon
    if epsilon is None:
        raise UnsupportedModel(
            f"{form.architecture}.attention.layer_norm_rms_epsilon, or layer_norm_epsilon: field required"
        )
    head_dim = fields.key_length or fields.embedding_length // fields.head_count
    if fields.value_length not in (None, head_dim) and not form.is_latent:
        raise UnsupportedModel(
            f"{form.architecture}.attention.value_length must be {head_dim}, the size of a head, "
            f"got {fields.value_length}"
        )
    return {
        # The metadata need not say how large the vocabulary is. GGUF lists columns first.
        "vocab_size": int(tensors["token_embd.weight"].shape[1]),
        "hidden_size": fields.embedding_length,
        "intermediate_size": fields.feed_forward_length,
        "num_hidden_layers": fields.block_count,
        "num_attention_heads": fields.head_count,
        "num_key_value_heads": fields.head_count_kv or fields.head_count,
        "head_dim": head_dim,
        "max_position_embeddings": fields.context_length,
        "rms_norm_eps": epsilon,
        "layer_norm_eps": epsilon,
        "norm_epsilon": epsilon,
        "norm_eps": epsilon,
        "rope_theta": fields.rope_base,
        "rope_scaling": None,
        "rope_parameters": None,
        "sliding_window": fields.sliding_window or None if form.is_windowed is not None else None,
        "layer_types": _layer_types(fields, form),
        # What the tensors say.
        "use_qk_norm": "blk.0.attn_q_norm.weight" in tensors,
        "qk_layernorm": "blk.0.attn_q_norm.weight" in tensors,
        "lm_head_bias": "output.bias" in tensors,
        "use_parallel_residual": "blk.0.ffn_norm.weight" not in tensors,
        "num_ln_in_parallel_attn": 2 if "blk.0.attn_norm_2.weight" in tensors else 1,
    }


def _layer_types(fields: Metadata, form: GGUFForm) -> list[str] | None:
    pattern = fields.sliding_window_pattern
    if pattern is None or not fields.sliding_window:
        return None
    if isinstance(pattern, int):
        slides = [layer % pattern != pattern - 1 for layer in range(fields.block_count)]
        if form.is_windowed is None or slides != [form.is_windowed(layer) for layer in range(fields.block_count)]:
            raise UnsupportedModel(
                f"{form.architecture}.attention.sliding_window_pattern must be that of the architecture, got {pattern}"
            )
        return None
    if len(pattern) != fields.block_count:
        raise UnsupportedModel(
            f"{form.architecture}.attention.sliding_window_pattern must have {fields.block_count} entries, "
            f"got {len(pattern)}"
        )
    return ["sliding_attention" if slides else "full_attention" for slides in pattern]


def _config(values: Mapping[str, Any], form: GGUFForm, own: str) -> ConfigFields:
    try:
        return ConfigFields.model_validate(values)
    except ValidationError as error:
        words = explain(error)
        for key, name in form.keys.items():
            words = words.replace(f"{name}: ", f"{own}{key}: ")
        raise UnsupportedModel(textwrap.shorten(words, 300, placeholder=" ...")) from None


def _with_tensors(spec: ModelSpec, tensors: Tensors, form: GGUFForm) -> ModelSpec:
    """With what the file's tensors say, and their names of experts and sinks."""
    experts = spec.experts
    names = EXPERTS
    if experts is not None:
        of_experts = [tensor for name, tensor in tensors.items() if "_exps.weight" in name]
        is_packed = bool(of_experts) and all(tensor.tensor_type.name == "MXFP4" for tensor in of_experts)
        experts = replace(experts, is_packed=is_packed and experts.has_biases)
        names = PACKED_EXPERTS if experts.is_packed else EXPERTS
    has = _biases(tensors)
    own_names = spec.tensors
    if _FUSED_QKV in tensors and not form.interleaved:  # whose rows would have to be put in order
        own_names = replace(own_names, qkv=("self_attn.qkv_proj",))
    return replace(
        spec,
        tie_embeddings="output.weight" not in tensors,
        qkv_by_groups=False,  # in files queries, keys and values stand behind one another, whatever the family
        qkv_bias=bool(has & {"attn_q", "attn_k", "attn_v", "attn_qkv"}),
        output_bias="attn_output" in has,
        mlp_bias=bool(has & {"ffn_gate", "ffn_up", "ffn_down"}),
        experts=experts,
        tensors=replace(
            own_names,
            sinks=SINKS if spec.has_sinks else spec.tensors.sinks,
            experts=(names,) if experts is not None else (),
        ),
    )


def _biases(tensors: Tensors) -> set[str]:
    """The layers' tensors that have one."""
    return {name.split(".")[-2] for name in tensors if name.startswith("blk.") and name.endswith(".bias")}
