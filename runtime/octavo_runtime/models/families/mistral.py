"""Mistral 7B and its successors: transformers' MistralConfig. They compute as Llama does, all layers in one window."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.families import llama
from octavo_runtime.models.family import Family
from octavo_runtime.models.spec import ModelSpec


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    every = range(fields.num_hidden_layers if fields.sliding_window is not None else 0)
    return replace(llama.spec(fields, eos_token_ids), window=fields.sliding_window, windowed_layers=frozenset(every))


FAMILY = Family(
    "MistralForCausalLM",
    "mistral",
    {
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131_072,
        "sliding_window": 4096,
    },
    spec,
    with_pictures=("Mistral3ForConditionalGeneration", "mistral3"),
    models="Mistral 7B, Nemo, Small 3",
    kind="dense",
    beside="a sliding window (v0.1); its GGUF files are read as Llama's",
)
