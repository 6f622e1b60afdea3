"""Hunyuan A13B: transformers' HunYuanMoEV1Config. Queries and keys are normalised after they are turned; every layer
has experts and a shared one."""

from dataclasses import replace
from typing import Any

from octavo_runtime.layers.routing import Routing
from octavo_runtime.models.config_fields import ConfigFields, one_for_all, shown
from octavo_runtime.models.families import llama, mixtral
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.models.tensor_names import ExpertNames, TensorNames

_NAMES = ExpertNames(
    router="mlp.gate.wg.weight",
    shared_gate_up=("mlp.shared_mlp.gate_proj", "mlp.shared_mlp.up_proj"),
    shared_down="mlp.shared_mlp.down_proj",
)


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    found = llama.spec(_with_base(fields), eos_token_ids)
    routing = Routing(one_for_all(fields.num_experts, "num_experts"), one_for_all(fields.moe_topk, "moe_topk"))
    return replace(
        found,
        mlp_bias=False,
        qk_norm=True,
        qk_norm_follows_rope=True,
        experts=mixtral.every_layer(fields, routing, fields.intermediate_size),
        tensors=TensorNames(
            q_norm="self_attn.query_layernorm",
            k_norm="self_attn.key_layernorm",
            experts=(_NAMES, _NAMES.stacked()),
        ),
    )


def _with_base(fields: ConfigFields) -> ConfigFields:
    """A rope of type dynamic with `alpha` is a plain one of another base (NTK-aware scaling)."""
    where = "rope_parameters" if fields.rope_parameters else "rope_scaling"
    given: dict[str, Any] = getattr(fields, where) or {}
    alpha, theta = given.get("alpha"), given.get("rope_theta") or fields.rope_theta or 10_000.0
    if (given.get("rope_type") or given.get("type")) != "dynamic" or not alpha:
        return fields
    if not isinstance(alpha, int | float) or not isinstance(theta, int | float) or alpha <= 0 or theta <= 0:
        raise UnsupportedModel(f"{where}.alpha and rope_theta must be above 0, got {shown(alpha)} and {shown(theta)}")
    head_dim = fields.head_dim or fields.hidden_size // fields.num_attention_heads
    base = theta * alpha ** (head_dim / (head_dim - 2))
    return fields.model_copy(update={where: None, "rope_theta": base})


FAMILY = Family(
    "HunYuanMoEV1ForCausalLM",
    "hunyuan_v1_moe",
    {
        "vocab_size": 290_943,
        "intermediate_size": 11_008,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "num_experts": 1,
    },
    spec,
    reads=frozenset({"num_experts", "use_qk_norm"}),
    gguf=GGUFForm(
        "hunyuan-moe",
        keys={
            "expert_count": "num_experts",
            "expert_used_count": "moe_topk",
            "expert_feed_forward_length": "intermediate_size",
            "expert_shared_feed_forward_length": "shared_intermediate_size",
        },
        must={"expert_shared_count": 1},
    ),
    models="Hunyuan A13B",
    kind="experts",
    beside="router: softmax; divided by their sum; a shared expert; norms of queries and keys after these are turned; "
    "dynamic rope with `alpha`",
)
