"""Qwen 1.5 and 2 with experts: transformers' Qwen2MoeConfig. A shared expert with a gate."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields, one_for_all, windowed
from octavo_runtime.models.families import llama, qwen3_moe
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.tensor_names import ExpertNames, TensorNames

_NAMES = ExpertNames(
    shared_gate_up=("mlp.shared_expert.gate_proj", "mlp.shared_expert.up_proj"),
    shared_down="mlp.shared_expert.down_proj",
)


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    window = fields.sliding_window if fields.use_sliding_window else None
    fields = fields.model_copy(update={"sliding_window": window})
    experts = qwen3_moe.sparse_layers(fields, one_for_all(fields.num_experts, "num_experts"))
    if experts is not None:
        experts = replace(experts, shared_size=fields.shared_expert_intermediate_size, gates_shared=True)
    return replace(
        llama.spec(fields, eos_token_ids),
        qkv_bias=fields.qkv_bias,
        output_bias=False,
        mlp_bias=False,
        window=window,
        windowed_layers=windowed(
            fields, lambda layer: window is not None and layer % 2 == 0 and layer < fields.max_window_layers
        ),
        experts=experts,
        tensors=TensorNames(experts=(_NAMES, _NAMES.stacked())),
    )


FAMILY = Family(
    "Qwen2MoeForCausalLM",
    "qwen2_moe",
    {
        "vocab_size": 151_936,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "max_position_embeddings": 32_768,
        "sliding_window": 4096,
        "moe_intermediate_size": 1408,
        "shared_expert_intermediate_size": 5632,
        "num_experts": 60,
        "num_experts_per_tok": 4,
    },
    spec,
    reads=frozenset({"num_experts"}),
    gguf=GGUFForm(
        "qwen2moe",
        keys={
            "expert_count": "num_experts",
            "expert_used_count": "num_experts_per_tok",
            "expert_feed_forward_length": "moe_intermediate_size",
            "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
        },
    ),
    models="Qwen 1.5 and 2 MoE",
    kind="experts",
    beside="router: as Qwen 3 MoE; a shared expert with a gate; biases of queries, keys and values",
)
