"""Ministral 8B: transformers' MinistralConfig. Mistral, its window by layer."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields, windowed
from octavo_runtime.models.families import llama, mistral
from octavo_runtime.models.family import Family
from octavo_runtime.models.spec import ModelSpec


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    return replace(
        llama.spec(fields, eos_token_ids),
        window=fields.sliding_window,
        windowed_layers=windowed(fields, lambda _: fields.sliding_window is not None),
    )


FAMILY = Family(
    "MinistralForCausalLM",
    "ministral",
    mistral.FAMILY.defaults,
    spec,
    models="Ministral 8B",
    kind="dense",
    beside="windows by layer",
)
