"""Command R7B and A: transformers' Cohere2Config. Cohere with three of four layers in a window; the others are not
turned."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields, windowed
from octavo_runtime.models.families import cohere
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    if fields.sliding_window is None:
        raise UnsupportedModel("sliding_window must be given, got none")
    slides = windowed(fields, lambda layer: (layer + 1) % fields.sliding_window_pattern != 0)
    return replace(
        cohere.spec(fields, eos_token_ids),
        window=fields.sliding_window,
        windowed_layers=slides,
        unrotated_layers=frozenset(range(fields.num_hidden_layers)) - slides,
    )


FAMILY = Family(
    "Cohere2ForCausalLM",
    "cohere2",
    {
        **cohere.FAMILY.defaults,
        "rope_theta": 10_000.0,
        "sliding_window": 4096,
        "sliding_window_pattern": 4,
    },
    spec,
    reads=cohere.READS,
    gguf=GGUFForm("cohere2", is_windowed=lambda layer: (layer + 1) % 4 != 0, keys={"logit_scale": "logit_scale"}),
    models="Command R7B, Command A",
    kind="dense",
    beside="as Command R; windows in three of four layers, the others are not turned",
)
