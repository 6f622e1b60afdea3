"""Qwen 3: transformers' Qwen3Config. Queries and keys are normalised head by head."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.families import llama, qwen2
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    return qwen2.in_window(replace(llama.spec(fields, eos_token_ids), qk_norm=True, mlp_bias=False), fields)


FAMILY = Family(
    "Qwen3ForCausalLM",
    "qwen3",
    {
        "vocab_size": 151_936,
        "intermediate_size": 22_016,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "max_position_embeddings": 32_768,
        "sliding_window": 4096,
    },
    spec,
    gguf=GGUFForm("qwen3"),
    models="Qwen 3, dense",
    kind="dense",
    beside="norms of queries and keys; windows as Qwen 2",
)
