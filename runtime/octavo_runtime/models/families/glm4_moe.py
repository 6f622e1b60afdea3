"""GLM 4.5, 4.6 and 4.7: transformers' Glm4MoeConfig. Half of each head is turned; the router's sigmoids are corrected
for the choice; the first layers have one MLP."""

from dataclasses import replace

from octavo_runtime.layers.routing import Routing
from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.config_rope import partial_rotary
from octavo_runtime.models.families import llama, qwen3_moe
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.tensor_names import layer_prefix


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    fields, share = partial_rotary(fields, default=0.5)
    found = llama.spec(fields, eos_token_ids)
    inner = fields.moe_intermediate_size
    shared_size = fields.n_shared_experts * inner if isinstance(inner, int) else 0
    # Layers behind the last predict a further token.
    further = range(fields.num_hidden_layers, fields.num_hidden_layers + (fields.num_nextn_predict_layers or 1))
    return replace(
        found,
        rotary_dim=int(found.head_dim * share),
        output_bias=False,
        mlp_bias=False,
        qk_norm=fields.use_qk_norm,
        experts=qwen3_moe.chosen_layers(
            fields, lambda layer: layer >= fields.first_k_dense_replace, routing(fields), shared_size
        ),
        tensors=qwen3_moe.NAMES,
        unread=tuple(map(layer_prefix, further)),
    )


def routing(fields: ConfigFields) -> Routing:
    """By corrected sigmoids, within groups, as DeepSeek V3 has it."""
    return Routing(
        fields.n_routed_experts,
        fields.num_experts_per_tok,
        scores="sigmoid",
        renormalises=fields.norm_topk_prob,
        has_correction=True,
        groups=fields.n_group or 1,
        top_groups=fields.topk_group or 1,
        scale=fields.routed_scaling_factor,
    )


GGUF_KEYS = {
    "expert_count": "n_routed_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_count": "n_shared_experts",
    "expert_group_count": "n_group",
    "expert_group_used_count": "topk_group",
    "expert_weights_scale": "routed_scaling_factor",
    "expert_weights_norm": "norm_topk_prob",
    "leading_dense_block_count": "first_k_dense_replace",
    "nextn_predict_layers": "num_nextn_predict_layers",
}

FAMILY = Family(
    "Glm4MoeForCausalLM",
    "glm4_moe",
    {
        "vocab_size": 151_552,
        "intermediate_size": 10_944,
        "num_hidden_layers": 46,
        "num_attention_heads": 96,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5,
        "moe_intermediate_size": 1408,
        "num_experts_per_tok": 8,
        "n_shared_experts": 1,
        "n_routed_experts": 128,
        "first_k_dense_replace": 1,
        "norm_topk_prob": True,
    },
    spec,
    reads=frozenset({"partial_rotary_factor", "use_qk_norm"}),
    gguf=GGUFForm(
        "glm4moe",
        names={"post_attention_layernorm": "post_attention_norm"},
        keys=GGUF_KEYS,
        implied={"norm_topk_prob": False},
        must={"expert_gating_func": 2},
        turns_part=True,
    ),
    models="GLM 4.5, 4.6, 4.7",
    kind="experts",
    beside="router: sigmoids, corrected for the choice; groups; a scale; dense first layers, shared experts; layers "
    "that predict a further token are left unread",
)
