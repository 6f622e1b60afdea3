"""Granite 3 with experts: transformers' GraniteMoeConfig. Granite's multipliers, experts in all layers."""

from dataclasses import replace

from octavo_runtime.layers.routing import Routing
from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.families import granite, mixtral
from octavo_runtime.models.family import Family
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.tensor_names import ExpertNames, TensorNames

_NAMES = ExpertNames(
    router="block_sparse_moe.router.layer.weight",
    gate_up=("block_sparse_moe.input_linear.weight",),
    down="block_sparse_moe.output_linear.weight",
    shared_gate_up=("shared_mlp.input_linear",),
    shared_down="shared_mlp.output_linear",
)
# transformers' own names of the same.
_HELD = replace(
    _NAMES,
    router="block_sparse_moe.router.weight",
    gate_up=("block_sparse_moe.experts.gate_up_proj",),
    down="block_sparse_moe.experts.down_proj",
)


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    # The softmax over the chosen logits is that over all, divided by its sum over the chosen.
    routing = Routing(fields.num_local_experts, fields.num_experts_per_tok)
    return replace(
        granite.spec(fields, eos_token_ids),
        mlp_bias=False,
        experts=mixtral.every_layer(fields, routing),
        tensors=TensorNames(experts=(_NAMES, _HELD)),
    )


FAMILY = Family(
    "GraniteMoeForCausalLM",
    "granitemoe",
    {**granite.FAMILY.defaults, "num_local_experts": 8},
    spec,
    reads=granite.FAMILY.reads | {"num_local_experts"},
    models="Granite 3 MoE",
    kind="experts",
    beside="router: softmax over the chosen; four multipliers; its GGUF files are read as those of the next",
)
