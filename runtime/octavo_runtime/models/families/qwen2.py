"""Qwen 2 and 2.5: transformers' Qwen2Config. Biases of queries, keys and values."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields, windowed
from octavo_runtime.models.families import llama
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    biased = replace(llama.spec(fields, eos_token_ids), qkv_bias=True, output_bias=False, mlp_bias=False)
    return in_window(biased, fields)


def in_window(spec: ModelSpec, fields: ConfigFields) -> ModelSpec:
    """The layers from max_window_layers on see a window, if use_sliding_window says so."""
    window = fields.sliding_window if fields.use_sliding_window else None
    fields = fields.model_copy(update={"sliding_window": window})
    slides = windowed(fields, lambda layer: window is not None and layer >= fields.max_window_layers)
    return replace(spec, window=window, windowed_layers=slides)


FAMILY = Family(
    "Qwen2ForCausalLM",
    "qwen2",
    {
        "vocab_size": 151_936,
        "intermediate_size": 22_016,
        "num_key_value_heads": 32,
        "max_position_embeddings": 32_768,
        "sliding_window": 4096,
    },
    spec,
    gguf=GGUFForm("qwen2"),
    models="Qwen 2, 2.5, DeepSeek-R1-Distill-Qwen",
    kind="dense",
    beside="biases of queries, keys and values; windows by layer where `use_sliding_window` is set",
)
