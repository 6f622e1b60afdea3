"""DeepSeek V3 and R1, Kimi K2 and Moonlight: transformers' DeepseekV3Config. Latent attention; the router's sigmoids
are corrected for the choice."""

from octavo_runtime.layers.routing import Routing
from octavo_runtime.models.config_fields import ConfigFields, shown
from octavo_runtime.models.families import deepseek_v2, glm4_moe
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    found = deepseek_v2.latent(fields, eos_token_ids)
    return deepseek_v2.with_experts(
        found, fields, routing(fields), lambda layer: deepseek_v2.has_experts(fields, layer)
    )


def routing(fields: ConfigFields) -> Routing:
    """Raises UnsupportedModel where the configuration names another router."""
    if fields.topk_method not in (None, "noaux_tc"):
        raise UnsupportedModel(f"topk_method must be noaux_tc, got {shown(fields.topk_method)}")
    deepseek_v2.check_scores(fields, "sigmoid")
    return glm4_moe.routing(fields)


FAMILY = Family(
    "DeepseekV3ForCausalLM",
    "deepseek_v3",
    {
        "vocab_size": 129_280,
        "hidden_size": 7168,
        "intermediate_size": 18_432,
        "num_hidden_layers": 61,
        "num_attention_heads": 128,
        "max_position_embeddings": 4096,
        "q_lora_rank": 1536,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "moe_intermediate_size": 2048,
        "routed_scaling_factor": 2.5,
        "v_head_dim": 128,
        "n_group": 8,
        "topk_group": 4,
        "num_experts_per_tok": 8,
        "first_k_dense_replace": 3,
        "norm_topk_prob": True,
        "num_nextn_predict_layers": 1,
    },
    spec,
    gguf=GGUFForm(
        deepseek_v2.GGUF_ARCHITECTURE,
        keys=glm4_moe.GGUF_KEYS,
        implied=deepseek_v2.GGUF_IMPLIED,
        must={"expert_gating_func": 2},
        turns_part=True,
        is_latent=True,
        is_marked=deepseek_v2.has_corrections,
    ),
    models="DeepSeek V3, V3.1, R1, Kimi K2, Moonlight",
    kind="latent",
    beside="experts as GLM 4.5; layers that predict a further token are left unread; published in FP8",
)
