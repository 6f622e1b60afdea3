"""Granite 3, the dense ones: transformers' GraniteConfig. Four multipliers, and otherwise Llama."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.families import llama
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    return replace(
        llama.spec(fields, eos_token_ids),
        attention_scale=fields.attention_multiplier,
        embedding_multiplier=fields.embedding_multiplier,
        residual_multiplier=fields.residual_multiplier,
        logits_divisor=fields.logits_scaling,
    )


GGUF_KEYS = {
    "attention.scale": "attention_multiplier",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
}

FAMILY = Family(
    "GraniteForCausalLM",
    "granite",
    {"intermediate_size": 11_008, "max_position_embeddings": 2048},
    spec,
    reads=frozenset({"attention_multiplier", "embedding_multiplier", "residual_multiplier", "logits_scaling"}),
    gguf=GGUFForm("granite", interleaved=True, keys=GGUF_KEYS),
    models="Granite 3, dense",
    kind="dense",
    beside="four multipliers",
)
