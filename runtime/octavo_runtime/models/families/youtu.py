"""Youtu-LLM: transformers' YoutuConfig. The latent attention of DeepSeek V3, and one MLP a layer."""

from octavo_runtime.models.families import deepseek_v2
from octavo_runtime.models.family import Family, GGUFForm

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
    gguf=GGUFForm(
        deepseek_v2.GGUF_ARCHITECTURE,
        # What all files of the architecture say of experts, though there are none.
        keys={
            "expert_feed_forward_length": "moe_intermediate_size",
            "leading_dense_block_count": "first_k_dense_replace",
        },
        must={"expert_shared_count": 0},
        turns_part=True,
        is_latent=True,
    ),
    models="Youtu-LLM",
    kind="latent",
    beside="dense",
)
