"""Mixtral: transformers' MixtralConfig. Mistral with experts."""

from dataclasses import replace

from octavo_runtime.layers.routing import Routing
from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.families import mistral
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ExpertLayers, ModelSpec
from octavo_runtime.models.tensor_names import ExpertNames, TensorNames

BLOCK_SPARSE = ExpertNames(
    router="block_sparse_moe.gate.weight",
    correction="block_sparse_moe.e_score_correction_bias",
    gate_up=("block_sparse_moe.experts.{}.w1.weight", "block_sparse_moe.experts.{}.w3.weight"),
    down="block_sparse_moe.experts.{}.w2.weight",
)


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    return replace(
        mistral.spec(fields, eos_token_ids),
        experts=every_layer(fields, Routing(fields.num_local_experts, fields.num_experts_per_tok)),
        tensors=TensorNames(experts=(BLOCK_SPARSE, ExpertNames().stacked())),
    )


def every_layer(fields: ConfigFields, routing: Routing, shared_size: int = 0) -> ExpertLayers:
    """Experts of intermediate_size in all layers."""
    return ExpertLayers(frozenset(range(fields.num_hidden_layers)), routing, fields.intermediate_size, shared_size)


GGUF_KEYS = {
    "expert_count": "num_local_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "intermediate_size",
}

FAMILY = Family(
    "MixtralForCausalLM",
    "mixtral",
    {
        "intermediate_size": 14_336,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1_000_000.0,
        "num_local_experts": 8,
    },
    spec,
    reads=frozenset({"num_local_experts"}),
    gguf=GGUFForm(
        "llama",
        interleaved=True,
        is_windowed=lambda _: True,
        keys=GGUF_KEYS,
        is_marked=lambda keys, _: bool(keys.get("expert_count")),
    ),
    models="Mixtral",
    kind="experts",
    beside="router: softmax; the chosen weights divided by their sum",
)
