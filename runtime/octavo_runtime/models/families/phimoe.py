"""Phi 3.5 MoE: transformers' PhimoeConfig. LayerNorm, biases, LongRoPE, and a router of its own (SparseMixer)."""

import math
from dataclasses import replace
from typing import Any

from octavo_runtime.layers.rope_scaling import LongRope
from octavo_runtime.layers.routing import Routing
from octavo_runtime.models.config_fields import ConfigFields, shown
from octavo_runtime.models.families import mistral, mixtral
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.models.tensor_names import ExpertNames, TensorNames

_HELD = replace(ExpertNames().stacked(), router="mlp.router.weight")


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    routing = Routing(
        fields.num_local_experts,
        2,  # as SparseMixer has it, whatever num_experts_per_tok says
        scores="sparsemixer",
        renormalises=False,
        jitter=fields.router_jitter_noise,
    )
    fields, scales = _scales(fields)
    found = mistral.spec(fields, eos_token_ids)
    if scales is not None and isinstance(found.rope_scaling, LongRope):
        short, long = scales
        scaling = replace(found.rope_scaling, attention_factor=short, long_attention_factor=long)
        found = replace(found, rope_scaling=scaling)
    return replace(
        found,
        norm="layer",
        norm_bias=True,
        mlp_bias=False,
        head_bias=fields.lm_head_bias,
        experts=mixtral.every_layer(fields, routing),
        tensors=TensorNames(experts=(mixtral.BLOCK_SPARSE, _HELD)),
    )


def _scales(fields: ConfigFields) -> tuple[ConfigFields, tuple[float, float] | None]:
    """LongRoPE's factors of queries and keys within the original context and beyond it, which other families have one
    of, and the fields without them; None where they are not given."""
    where = "rope_parameters" if fields.rope_parameters else "rope_scaling"
    given: dict[str, Any] = dict(getattr(fields, where) or {})
    scales = [given.pop(name, None) for name in ("short_mscale", "long_mscale")]
    if scales == [None, None]:
        return fields, None
    for name, scale in zip(("short_mscale", "long_mscale"), scales, strict=True):
        if not isinstance(scale, int | float) or not 0 < scale < math.inf:
            raise UnsupportedModel(f"{where}.{name} must be a number above 0, got {shown(scale)}")
    return fields.model_copy(update={where: given}), (scales[0], scales[1])


FAMILY = Family(
    "PhimoeForCausalLM",
    "phimoe",
    {
        "vocab_size": 32_064,
        "intermediate_size": 6400,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1_000_000.0,
        "num_local_experts": 16,
    },
    spec,
    reads=frozenset({"num_local_experts"}),
    gguf=GGUFForm("phimoe", is_windowed=lambda _: True, keys=mixtral.GGUF_KEYS),
    models="Phi 3.5 MoE",
    kind="experts",
    beside="router: SparseMixer, two experts; LayerNorm, biases, LongRoPE",
)
