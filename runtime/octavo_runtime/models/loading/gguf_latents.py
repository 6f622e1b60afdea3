"""Latent attention in GGUF files: its sizes in their metadata, and its expansion, which files hold as one tensor or, of
late, as two. Free of torch."""

import math
from collections.abc import Container
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from octavo_runtime.layers.rope_scaling import YarnRope
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel

_EXPANSION, _OF_KEYS, _OF_VALUES = "attn_kv_b.weight", "attn_k_b.weight", "attn_v_b.weight"
_Size = Annotated[int, Field(ge=1, le=2**24)]


class LatentMetadata(BaseModel):
    """The keys that architectures with latent attention have beside the others. key_length, value_length: of a head;
    files of before the expansion was two tensors say these by the names of all architectures."""

    model_config = ConfigDict(strict=True, extra="forbid")

    rank: _Size = Field(alias="attention.kv_lora_rank")
    query_rank: _Size | None = Field(None, alias="attention.q_lora_rank")
    key_length: _Size | None = Field(None, alias="attention.key_length_mla")
    value_length: _Size | None = Field(None, alias="attention.value_length_mla")
    log_multiplier: float = Field(0.0, alias="rope.scaling.yarn_log_multiplier", ge=0, allow_inf_nan=False)


LATENT_KEYS = tuple(str(field.alias) for field in LatentMetadata.model_fields.values())


def latent_fields(found: LatentMetadata, head_dim: int, value_dim: int | None, turned: int) -> dict[str, Any]:
    """The fields of a config.json. head_dim, value_dim: what a file says by the names of all architectures. turned:
    entries of a head that the rotary embedding turns. Raises UnsupportedModel."""
    head_dim = found.key_length or head_dim
    if not 0 < turned < head_dim:
        raise UnsupportedModel(f"rope.dimension_count must be from 1 to {head_dim - 1}, a part of a head, got {turned}")
    return {
        "kv_lora_rank": found.rank,
        "q_lora_rank": found.query_rank,
        "qk_nope_head_dim": head_dim - turned,
        "qk_rope_head_dim": turned,
        "v_head_dim": found.value_length or value_dim,
    }


def with_log_multiplier(spec: ModelSpec, multiplier: float) -> ModelSpec:
    """YaRN's factor of the scores; the rotary embedding's own factor is then of the turned part alone, and one, since
    a file does not say of it what would make it another."""
    scaling = spec.rope_scaling
    if not multiplier or not isinstance(scaling, YarnRope) or scaling.factor <= 1:
        return spec
    factor = (multiplier * math.log(scaling.factor) + 1) ** 2
    scale = spec.head_dim**-0.5 if spec.attention_scale is None else spec.attention_scale
    return replace(spec, attention_scale=scale * factor, rope_scaling=replace(scaling, attention_factor=1.0))


def expansion_sources(name: str, spec: ModelSpec, tensors: Container[str]) -> list[tuple[str, tuple[int, ...]]] | None:
    """The two tensors of the file that hold a layer's expansion, with their shapes; None where it is no such tensor, or
    one in the file."""
    if not name.endswith(_EXPANSION) or name in tensors or spec.latent is None:
        return None
    at, has = name.removesuffix(_EXPANSION), spec.latent
    return [
        (at + _OF_KEYS, (spec.num_heads, has.rank, spec.head_dim - spec.rotated)),
        (at + _OF_VALUES, (spec.num_heads, has.value_dim, has.rank)),
    ]
