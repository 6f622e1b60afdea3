"""OLMoE: transformers' OlmoeConfig. Experts in all layers, norms of queries and keys in their whole width."""

from dataclasses import replace

from octavo_runtime.layers.routing import Routing
from octavo_runtime.models.config_fields import ConfigFields, one_for_all
from octavo_runtime.models.families import llama, mixtral, qwen3_moe
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    num_experts = one_for_all(fields.num_experts, "num_experts")
    routing = Routing(num_experts, fields.num_experts_per_tok, renormalises=fields.norm_topk_prob)
    return replace(
        llama.spec(fields, eos_token_ids),
        qk_norm=True,
        qk_norm_spans_heads=True,
        mlp_bias=False,
        experts=mixtral.every_layer(fields, routing),
        tensors=qwen3_moe.NAMES,
    )


FAMILY = Family(
    "OlmoeForCausalLM",
    "olmoe",
    {
        "vocab_size": 50_304,
        "hidden_size": 2048,
        "intermediate_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "num_experts": 64,
        "num_experts_per_tok": 8,
    },
    spec,
    reads=frozenset({"num_experts"}),
    gguf=GGUFForm(
        "olmoe",
        keys={**mixtral.GGUF_KEYS, "expert_count": "num_experts"},
    ),
    models="OLMoE",
    kind="experts",
    beside="router: as Qwen 3 MoE; norms of queries and keys in their whole width; no `clip_qkv`",
)
