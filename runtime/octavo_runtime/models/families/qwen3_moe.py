"""Qwen 3 with experts: transformers' Qwen3MoeConfig. Some layers may have one MLP."""

from collections.abc import Callable
from dataclasses import replace

from octavo_runtime.layers.routing import Routing
from octavo_runtime.models.config_fields import ConfigFields, one_for_all
from octavo_runtime.models.families import llama
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ExpertLayers, ModelSpec
from octavo_runtime.models.tensor_names import ExpertNames, TensorNames

NAMES = TensorNames(experts=(ExpertNames(), ExpertNames().stacked()))


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    num_experts = fields.num_local_experts or one_for_all(fields.num_experts, "num_experts")
    window = fields.sliding_window if fields.use_sliding_window else None
    return replace(
        llama.spec(fields, eos_token_ids),
        qk_norm=True,
        mlp_bias=False,
        window=window,
        windowed_layers=frozenset(range(fields.num_hidden_layers if window is not None else 0)),
        experts=sparse_layers(fields, num_experts),
        tensors=NAMES,
    )


def sparse_layers(fields: ConfigFields, num_experts: int) -> ExpertLayers | None:
    """Experts in every layer of decoder_sparse_step, but for those of mlp_only_layers."""
    dense = fields.mlp_only_layers or []
    return chosen_layers(
        fields,
        lambda layer: layer not in dense and (layer + 1) % fields.decoder_sparse_step == 0,
        Routing(num_experts, fields.num_experts_per_tok, renormalises=fields.norm_topk_prob),
    )


def chosen_layers(
    fields: ConfigFields, has_experts: Callable[[int], bool], routing: Routing, shared_size: int = 0
) -> ExpertLayers | None:
    """Experts of moe_intermediate_size in the layers that a rule names; None where that is none."""
    layers = frozenset(filter(has_experts, range(fields.num_hidden_layers)))
    inner = one_for_all(fields.moe_intermediate_size or fields.intermediate_size, "moe_intermediate_size")
    return ExpertLayers(layers, routing, inner, shared_size) if layers else None


FAMILY = Family(
    "Qwen3MoeForCausalLM",
    "qwen3_moe",
    {
        "vocab_size": 151_936,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 24,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32_768,
        "sliding_window": 4096,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
    },
    spec,
    reads=frozenset({"num_experts", "num_local_experts"}),
    gguf=GGUFForm(
        "qwen3moe",
        keys={
            "expert_count": "num_experts",
            "expert_used_count": "num_experts_per_tok",
            "expert_feed_forward_length": "moe_intermediate_size",
        },
        implied={"norm_topk_prob": True},
        must={"expert_weights_norm": True, "expert_gating_func": 1},
    ),
    models="Qwen 3 MoE (30B-A3B, 235B-A22B, Coder)",
    kind="experts",
    beside="router: softmax; divided by their sum where `norm_topk_prob` says so; norms of queries and keys; dense "
    "layers (`mlp_only_layers`, `decoder_sparse_step`)",
)
