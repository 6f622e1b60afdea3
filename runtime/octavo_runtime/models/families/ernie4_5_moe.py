"""ERNIE 4.5 with experts: transformers' Ernie4_5_MoeConfig. The choice is by corrected probabilities; layers of a range
have experts."""

from dataclasses import replace

from octavo_runtime.layers.routing import Routing
from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.families import ernie4_5, qwen3_moe
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.models.tensor_names import ExpertNames, TensorNames

_NAMES = ExpertNames(correction="mlp.moe_statics.e_score_correction_bias", correction_is_row=True)
_HELD = replace(_NAMES.stacked(), correction="mlp.gate.moe_statics.e_score_correction_bias")


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    if fields.use_bias:
        raise UnsupportedModel("use_bias must be False beside experts, got True")
    routing = Routing(fields.moe_num_experts, fields.moe_k, has_correction=True, least_sum=fields.moe_norm_min)
    first, last = fields.moe_layer_start_index, fields.moe_layer_end_index
    last = fields.num_hidden_layers - 1 if last == -1 else last
    inner = fields.moe_intermediate_size
    shared_size = fields.moe_num_shared_experts * inner if isinstance(inner, int) else 0
    return replace(
        ernie4_5.spec(fields, eos_token_ids),
        experts=qwen3_moe.chosen_layers(
            fields,
            lambda layer: first <= layer <= last and (layer + 1) % fields.moe_layer_interval == 0,
            routing,
            shared_size,
        ),
        tensors=TensorNames(experts=(_NAMES, _HELD)),
        unread=("model.mtp_",),  # what predicts a further token
    )


FAMILY = Family(
    "Ernie4_5_MoeForCausalLM",
    "ernie4_5_moe",
    {
        "vocab_size": 103_424,
        "hidden_size": 2560,
        "intermediate_size": 12_288,
        "num_hidden_layers": 28,
        "num_attention_heads": 20,
        "num_key_value_heads": 4,
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "tie_word_embeddings": True,
        "moe_intermediate_size": 1536,
        "moe_num_experts": 64,
        "moe_num_shared_experts": 2,
        "moe_layer_start_index": 1,
    },
    spec,
    gguf=GGUFForm(
        "ernie4_5-moe",
        keys={
            "expert_count": "moe_num_experts",
            "expert_used_count": "moe_k",
            "expert_feed_forward_length": "moe_intermediate_size",
            "expert_shared_count": "moe_num_shared_experts",
            "expert_shared_feed_forward_length": "shared_intermediate_size",  # of one, and not always true
            "leading_dense_block_count": "moe_layer_start_index",
            "interleave_moe_layer_step": "moe_layer_interval",
        },
        implied={"moe_num_shared_experts": 0},
        must={"expert_gating_func": 1},
    ),
    models="ERNIE 4.5 MoE",
    kind="experts",
    beside="router: softmax, corrected for the choice; a range of layers with experts, shared ones; no biases",
)
