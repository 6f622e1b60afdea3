"""DeepSeek V2, V2-Lite and Coder V2: transformers' DeepseekV2Config. Latent attention, whose rotary embedding turns
neighbours; softmax routers, some of which choose groups of experts first, by the best one in each."""

import math
from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from typing import Any

from octavo_runtime.layers.rope_scaling import YarnRope
from octavo_runtime.layers.routing import Routing
from octavo_runtime.models.config_fields import ConfigFields, shown
from octavo_runtime.models.families import glm4_moe, llama, qwen3_moe
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import LatentHeads, ModelSpec, UnsupportedModel
from octavo_runtime.models.tensor_names import layer_prefix


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    grouped = fields.topk_method == "group_limited_greedy"
    if not grouped and fields.topk_method not in (None, "greedy"):
        raise UnsupportedModel(f"topk_method must be greedy or group_limited_greedy, got {shown(fields.topk_method)}")
    if fields.norm_topk_prob:
        raise UnsupportedModel("norm_topk_prob must be False for deepseek_v2, got True")
    check_scores(fields, "softmax")
    routing = Routing(
        fields.n_routed_experts,
        fields.num_experts_per_tok,
        renormalises=False,
        groups=fields.n_group or 1 if grouped else 1,
        top_groups=fields.topk_group or 1 if grouped else 1,
        group_best=1,
        scale=fields.routed_scaling_factor,
    )
    return with_experts(latent(fields, eos_token_ids), fields, routing, lambda layer: has_experts(fields, layer))


def latent(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """A decoder with latent attention and one MLP a layer."""
    plain, rope = fields.qk_nope_head_dim, fields.qk_rope_head_dim
    head_dim = plain + rope
    found = llama.spec(fields.model_copy(update={"head_dim": head_dim}), eos_token_ids)
    return replace(
        found,
        num_kv_heads=found.num_heads,
        rotary_dim=rope,
        interleaved_rope=fields.rope_interleave,
        attention_scale=head_dim**-0.5 * _score_factor(fields, found),
        qkv_bias=False,
        output_bias=False,
        mlp_bias=False,
        latent=LatentHeads(
            rank=fields.kv_lora_rank,
            value_dim=fields.v_head_dim or fields.hidden_size // fields.num_attention_heads,
            query_rank=fields.q_lora_rank,
            has_biases=fields.attention_bias,
        ),
    )


def _score_factor(fields: ConfigFields, found: ModelSpec) -> float:
    """YaRN's factor of the scores, where the configuration has the scale that it is made of; the rotary embedding's own
    factor is then of the turned part alone."""
    given = fields.rope_parameters or fields.rope_scaling or {}
    scale, scaling = given.get("mscale_all_dim"), found.rope_scaling
    if not scale or not isinstance(scaling, YarnRope) or scaling.factor <= 1:
        return 1.0
    return float((0.1 * scale * math.log(scaling.factor) + 1) ** 2)


def check_scores(fields: ConfigFields, named: str) -> None:
    """Refuses a router whose scores are others than transformers computes for the family."""
    if fields.scoring_func not in (None, named):
        raise UnsupportedModel(f"scoring_func must be {named}, got {shown(fields.scoring_func)}")


def has_experts(fields: ConfigFields, layer: int) -> bool:
    """Whether a layer has experts in the place of one MLP."""
    return layer >= fields.first_k_dense_replace and layer % fields.moe_layer_freq == 0


def with_experts(
    found: ModelSpec, fields: ConfigFields, routing: Routing, is_sparse: Callable[[int], bool]
) -> ModelSpec:
    """A decoder with experts in some layers, and passing over what predicts further tokens."""
    inner = fields.moe_intermediate_size
    shared_size = fields.n_shared_experts * inner if isinstance(inner, int) else 0
    further = range(fields.num_hidden_layers, fields.num_hidden_layers + (fields.num_nextn_predict_layers or 0))
    return replace(
        found,
        experts=qwen3_moe.chosen_layers(fields, is_sparse, routing, shared_size),
        tensors=qwen3_moe.NAMES,
        unread=tuple(map(layer_prefix, further)),
    )


def has_corrections(keys: Mapping[str, Any], tensors: Container[str]) -> bool:
    """Whether a GGUF file of the architecture has DeepSeek V3's router: some do not say so by a key."""
    first = keys.get("leading_dense_block_count") or 0
    return keys.get("expert_gating_func") == 2 or f"blk.{first}.exp_probs_b.bias" in tensors


GGUF_ARCHITECTURE = "deepseek2"
# What is so where a file does not say otherwise.
GGUF_IMPLIED = {
    "norm_topk_prob": False,
    "routed_scaling_factor": 1.0,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 0,
    "first_k_dense_replace": 0,
    "num_nextn_predict_layers": 0,
}

FAMILY = Family(
    "DeepseekV2ForCausalLM",
    "deepseek_v2",
    {
        "vocab_size": 102_400,
        "intermediate_size": 11_008,
        "max_position_embeddings": 2048,
        "q_lora_rank": 1536,
        "n_routed_experts": 64,
        "n_shared_experts": 2,
        "moe_intermediate_size": 1407,
        "v_head_dim": 128,
    },
    spec,
    gguf=GGUFForm(
        GGUF_ARCHITECTURE,
        keys=glm4_moe.GGUF_KEYS,
        implied={**GGUF_IMPLIED, "topk_method": "group_limited_greedy"},
        must={"expert_gating_func": 1},
        turns_part=True,
        is_latent=True,
        is_marked=lambda keys, tensors: bool(keys.get("expert_count")) and not has_corrections(keys, tensors),
    ),
    models="DeepSeek V2, V2-Lite, Coder V2",
    kind="latent",
    beside="experts: softmax, a scale, groups by their best expert (`topk_method`); dense first layers, shared experts",
)
