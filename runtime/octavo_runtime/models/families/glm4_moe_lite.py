"""GLM 4.7 Flash: transformers' Glm4MoeLiteConfig. DeepSeek V3 with a list of the layers that have experts."""

from octavo_runtime.models.config_fields import ConfigFields, shown
from octavo_runtime.models.families import deepseek_v2, deepseek_v3
from octavo_runtime.models.family import Family
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    layers, kinds = fields.num_hidden_layers, fields.mlp_layer_types
    if kinds is None:
        kinds = ["dense" if layer < fields.first_k_dense_replace else "sparse" for layer in range(layers)]
    if len(kinds) != layers:
        raise UnsupportedModel(f"mlp_layer_types must have num_hidden_layers ({layers}) entries, got {len(kinds)}")
    for kind in kinds:
        if kind not in ("dense", "sparse"):
            raise UnsupportedModel(f"mlp_layer_types must be of dense and sparse, got {shown(kind)}")
    found = deepseek_v2.latent(fields, eos_token_ids)
    return deepseek_v2.with_experts(found, fields, deepseek_v3.routing(fields), lambda layer: kinds[layer] == "sparse")


FAMILY = Family(
    "Glm4MoeLiteForCausalLM",
    "glm4_moe_lite",
    {
        "vocab_size": 154_880,
        "hidden_size": 2048,
        "intermediate_size": 10_240,
        "num_hidden_layers": 47,
        "num_attention_heads": 20,
        "max_position_embeddings": 202_752,
        "rms_norm_eps": 1e-5,
        "q_lora_rank": 768,
        "qk_nope_head_dim": 192,
        "v_head_dim": 256,
        "n_routed_experts": 64,
        "n_shared_experts": 1,
        "moe_intermediate_size": 1536,
        "routed_scaling_factor": 1.8,
        "num_experts_per_tok": 4,
        "first_k_dense_replace": 1,
        "norm_topk_prob": True,
        "num_nextn_predict_layers": 1,
    },
    spec,
    models="GLM 4.7 Flash",
    kind="latent",
    beside="as DeepSeek V3, whose GGUF files its own are read as; a list of the layers that have experts",
)
