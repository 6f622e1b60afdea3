"""Small shapes of the families with latent attention."""

from transformers import DeepseekV2Config, DeepseekV3Config, Glm4MoeLiteConfig, MiniCPM3Config, YoutuConfig

_SMALL = {
    "vocab_size": 300,
    "hidden_size": 96,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "max_position_embeddings": 256,
    "eos_token_id": 299,
    "pad_token_id": 0,
    "kv_lora_rank": 40,
    "q_lora_rank": 36,
    "qk_nope_head_dim": 20,
    "qk_rope_head_dim": 12,
    "v_head_dim": 18,
}
_DIRECT = {
    **_SMALL,
    "hidden_size": 84,
    "num_attention_heads": 7,
    "num_key_value_heads": 7,
    "kv_lora_rank": 22,  # transformers wants an even one
    "q_lora_rank": None,
}
_EXPERTS = {"n_routed_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 28}
_GROUPS = {"n_routed_experts": 12, "num_experts_per_tok": 3, "moe_intermediate_size": 24, "n_group": 4, "topk_group": 2}
_YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 40.0, "original_max_position_embeddings": 32}

LATENT_FAMILIES = {
    "deepseek v2": DeepseekV2Config(
        **_SMALL,
        **_GROUPS,
        topk_method="group_limited_greedy",
        first_k_dense_replace=1,
        n_shared_experts=2,
        routed_scaling_factor=3.5,
        rope_parameters={**_YARN, "mscale": 0.707, "mscale_all_dim": 0.707},
    ),
    "deepseek v2 lite": DeepseekV2Config(**_DIRECT, **_EXPERTS, n_shared_experts=1, first_k_dense_replace=1),
    "deepseek v3": DeepseekV3Config(
        **_SMALL,
        **_GROUPS,
        first_k_dense_replace=1,
        routed_scaling_factor=2.5,
        rope_parameters={**_YARN, "mscale": 1.0, "mscale_all_dim": 1.4},
    ),
    "deepseek v3, direct queries, plain weights": DeepseekV3Config(
        **{**_DIRECT, "kv_lora_rank": 23},
        **_EXPERTS,
        n_group=1,
        topk_group=1,
        first_k_dense_replace=2,
        norm_topk_prob=False,
        attention_bias=True,
        rope_interleave=False,
    ),
    "deepseek v3, biases": DeepseekV3Config(
        **_SMALL, **_EXPERTS, n_group=1, topk_group=1, first_k_dense_replace=0, attention_bias=True
    ),
    "glm 4.7 flash": Glm4MoeLiteConfig(
        **{**_SMALL, "v_head_dim": 32}, **_EXPERTS, mlp_layer_types=["sparse", "dense", "sparse"]
    ),
    "minicpm 3": MiniCPM3Config(**_SMALL, scale_emb=5, scale_depth=1.1, dim_model_base=32),
    "youtu": YoutuConfig(**_SMALL),
}
