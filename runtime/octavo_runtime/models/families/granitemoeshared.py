"""Granite 3 with experts and a shared one: transformers' GraniteMoeSharedConfig."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.families import granite, granitemoe, mixtral
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    found = granitemoe.spec(fields, eos_token_ids)
    assert found.experts is not None
    return replace(found, experts=replace(found.experts, shared_size=fields.shared_intermediate_size))


FAMILY = Family(
    "GraniteMoeSharedForCausalLM",
    "granitemoeshared",
    granitemoe.FAMILY.defaults,
    spec,
    reads=granitemoe.FAMILY.reads,
    gguf=GGUFForm(
        "granitemoe",
        interleaved=True,
        keys={
            **granite.GGUF_KEYS,
            **mixtral.GGUF_KEYS,
            "expert_shared_feed_forward_length": "shared_intermediate_size",
        },
    ),
    models="Granite 3 MoE with a shared expert",
    kind="experts",
    beside="as Granite 3 MoE",
)
