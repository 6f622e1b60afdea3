"""Mistral 7B and its successors: transformers' MistralConfig. They compute as Llama does, in a sliding window."""

from octavo_runtime.models.families import llama
from octavo_runtime.models.family import Family

FAMILY = Family(
    "MistralForCausalLM",
    "mistral",
    {
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131_072,
        "sliding_window": 4096,
    },
    llama.spec,
)
