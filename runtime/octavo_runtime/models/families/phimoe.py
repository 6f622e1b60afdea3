"""Phi 3.5 MoE: transformers' PhimoeConfig. LayerNorm, biases, LongRoPE, and a router of its own (SparseMixer)."""

from dataclasses import replace
from typing import Any

from octavo_runtime.layers.routing import Routing
from octavo_runtime.models.config_fields import ConfigFields, shown
from octavo_runtime.models.families import mistral, mixtral
from octavo_runtime.models.family import Family
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
    return replace(
        mistral.spec(_with_factor(fields), eos_token_ids),
        norm="layer",
        norm_bias=True,
        mlp_bias=False,
        head_bias=fields.lm_head_bias,
        experts=mixtral.every_layer(fields, routing),
        tensors=TensorNames(experts=(mixtral.BLOCK_SPARSE, _HELD)),
    )


def _with_factor(fields: ConfigFields) -> ConfigFields:
    """LongRoPE's factor of queries and keys, by its usual name: that of requests within the original context."""
    where = "rope_parameters" if fields.rope_parameters else "rope_scaling"
    given: dict[str, Any] = dict(getattr(fields, where) or {})
    if "short_mscale" not in given:
        return fields
    factor = given.pop("short_mscale")
    given.pop("long_mscale", None)
    if not isinstance(factor, int | float):
        raise UnsupportedModel(f"{where}.short_mscale must be a number, got {shown(factor)}")
    return fields.model_copy(update={where: {**given, "attention_factor": factor}})


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
    models="Phi 3.5 MoE",
    kind="experts",
    beside="router: SparseMixer, two experts; LayerNorm, biases, LongRoPE: requests up to the original context",
)
