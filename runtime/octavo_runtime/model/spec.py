"""ModelSpec: a decoder family described as data. Free of torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUPPORTED_ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM")
SUPPORTED_ROPE = ("default", "linear", "llama3")


class UnsupportedModel(ValueError):
    """The model cannot be served; one line that says which property, and what is supported."""


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
    max_position: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: Mapping[str, Any] | None  # config.json's rope_scaling; None: plain rotary embedding
    tie_embeddings: bool
    attention_bias: bool
    mlp_bias: bool
    eos_token_ids: tuple[int, ...]

    @property
    def qkv_size(self) -> int:
        """Rows of the fused query, key and value projection."""
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_dim


def spec_from_config(config: Mapping[str, Any], eos_token_ids: tuple[int, ...] = ()) -> ModelSpec:
    """ModelSpec of a Hugging Face config.json; UnsupportedModel where the decoder cannot compute it."""
    architecture = (config.get("architectures") or ["unknown"])[0]
    if architecture not in SUPPORTED_ARCHITECTURES:
        raise UnsupportedModel(f"architecture must be one of {', '.join(SUPPORTED_ARCHITECTURES)}, got {architecture}")
    if config.get("hidden_act", "silu") != "silu":
        raise UnsupportedModel(f"hidden_act must be silu, got {config['hidden_act']}")
    if config.get("sliding_window"):
        raise UnsupportedModel(f"sliding_window must be unset, got {config['sliding_window']}")
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    rope_type = rope.get("rope_type") or rope.get("type") or "default"
    if rope_type not in SUPPORTED_ROPE:
        raise UnsupportedModel(f"rope type must be one of {', '.join(SUPPORTED_ROPE)}, got {rope_type}")
    num_heads = int(config["num_attention_heads"])
    hidden_size = int(config["hidden_size"])
    return ModelSpec(
        vocab_size=int(config["vocab_size"]),
        hidden_size=hidden_size,
        intermediate_size=int(config["intermediate_size"]),
        num_layers=int(config["num_hidden_layers"]),
        num_heads=num_heads,
        num_kv_heads=int(config.get("num_key_value_heads") or num_heads),
        head_dim=int(config.get("head_dim") or hidden_size // num_heads),
        max_position=int(config["max_position_embeddings"]),
        rms_norm_eps=float(config["rms_norm_eps"]),
        rope_theta=float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0),
        rope_scaling=None if rope_type == "default" else {**rope, "rope_type": rope_type},
        tie_embeddings=bool(config.get("tie_word_embeddings", False)),
        attention_bias=bool(config.get("attention_bias", False)),
        mlp_bias=bool(config.get("mlp_bias", False)),
        eos_token_ids=eos_token_ids or _ids(config.get("eos_token_id")),
    )


def spec_from_folder(folder: Path) -> ModelSpec:
    """ModelSpec of a Hugging Face model folder: config.json, and generation_config.json's end-of-sequence ids."""
    config = json.loads((folder / "config.json").read_text())
    generation = folder / "generation_config.json"
    eos = _ids(json.loads(generation.read_text()).get("eos_token_id")) if generation.exists() else ()
    return spec_from_config(config, eos)


def spec_from_gguf(fields: Mapping[str, Any], *, vocab_size: int, tied: bool) -> ModelSpec:
    """ModelSpec of a GGUF file's metadata (github.com/ggml-org/ggml, docs/gguf.md). tied: the file has no output
    head."""
    if fields["general.architecture"] != "llama":
        raise UnsupportedModel(f"GGUF architecture must be llama, got {fields['general.architecture']}")
    if fields.get("llama.rope.scaling.type", "none") != "none":
        raise UnsupportedModel(f"GGUF rope scaling must be none, got {fields['llama.rope.scaling.type']}")
    num_heads = int(fields["llama.attention.head_count"])
    hidden_size = int(fields["llama.embedding_length"])
    eos = {
        int(fields[name]) for name in ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id") if name in fields
    }
    return ModelSpec(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=int(fields["llama.feed_forward_length"]),
        num_layers=int(fields["llama.block_count"]),
        num_heads=num_heads,
        num_kv_heads=int(fields.get("llama.attention.head_count_kv") or num_heads),
        head_dim=int(fields.get("llama.attention.key_length") or hidden_size // num_heads),
        max_position=int(fields["llama.context_length"]),
        rms_norm_eps=float(fields["llama.attention.layer_norm_rms_epsilon"]),
        rope_theta=float(fields.get("llama.rope.freq_base", 10000.0)),
        rope_scaling=None,
        tie_embeddings=tied,
        attention_bias=False,
        mlp_bias=False,
        eos_token_ids=tuple(sorted(eos)),
    )


def _ids(value: int | list[int] | None) -> tuple[int, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else (value,)
