"""Youtu-LLM: transformers' YoutuConfig. The latent attention of DeepSeek V3, and one MLP a layer."""

from octavo_runtime.models.families import deepseek_v2
from octavo_runtime.models.family import Family

FAMILY = Family(
    "YoutuForCausalLM",
    "youtu",
    {
        "vocab_size": 128_256,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_attention_heads": 16,
        "max_position_embeddings": 131_072,
        "tie_word_embeddings": True,
        "q_lora_rank": 1536,
        "v_head_dim": 128,
    },
    deepseek_v2.latent,
    models="Youtu-LLM",
    kind="latent",
    beside="dense",
)
