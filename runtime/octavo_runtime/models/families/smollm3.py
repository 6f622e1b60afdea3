"""SmolLM 3: transformers' SmolLM3Config. Every fourth layer has no rotary embedding."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields, windowed
from octavo_runtime.models.families import llama
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    layers, rotated = fields.num_hidden_layers, fields.no_rope_layers
    if rotated is None:
        rotated = [int((layer + 1) % fields.no_rope_layer_interval != 0) for layer in range(layers)]
    if len(rotated) != layers:
        raise UnsupportedModel(f"no_rope_layers must have num_hidden_layers ({layers}) entries, got {len(rotated)}")
    unrotated = frozenset(layer for layer, turns in enumerate(rotated) if not turns)
    window = fields.sliding_window if fields.use_sliding_window else None
    return replace(
        llama.spec(fields, eos_token_ids),
        unrotated_layers=unrotated,
        window=window,
        windowed_layers=windowed(fields, lambda layer: window is not None and layer in unrotated),
    )


FAMILY = Family(
    "SmolLM3ForCausalLM",
    "smollm3",
    {
        "vocab_size": 128_256,
        "hidden_size": 2048,
        "intermediate_size": 11_008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32_768,
        "rope_theta": 2_000_000.0,
        "tie_word_embeddings": True,
    },
    spec,
    reads=frozenset({"no_rope_layers"}),
    gguf=GGUFForm("smollm3", interleaved=True),
    models="SmolLM 3",
    kind="dense",
    beside="layers without a rotary embedding",
)
