"""Seed-OSS: transformers' SeedOssConfig. The attention's output has a bias of its own choice."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.families import llama
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    return replace(llama.spec(fields, eos_token_ids), output_bias=fields.attention_out_bias)


FAMILY = Family(
    "SeedOssForCausalLM",
    "seed_oss",
    {
        "vocab_size": 155_136,
        "intermediate_size": 27_648,
        "num_hidden_layers": 64,
        "num_attention_heads": 80,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 524_288,
        "attention_bias": True,
    },
    spec,
    gguf=GGUFForm("seed_oss", names={"post_attention_layernorm": "post_attention_norm"}),
    models="Seed-OSS",
    kind="dense",
    beside="biases of its own choice",
)
