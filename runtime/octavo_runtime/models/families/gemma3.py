"""Gemma 3, its text: transformers' Gemma3TextConfig. Gemma 2 with norms of queries and keys in the place of soft caps,
and a rotary embedding of their own for the layers in a window."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields, windowed
from octavo_runtime.models.config_rope import plain_rope_of_kind, with_rope_of_kind
from octavo_runtime.models.families import gemma2
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec

_LOCAL_THETA = 10_000.0


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    local_theta = plain_rope_of_kind(fields, "sliding_attention", fields.rope_local_base_freq or _LOCAL_THETA)
    full = with_rope_of_kind(fields, "full_attention")
    slides = windowed(fields, lambda layer: (layer + 1) % fields.sliding_window_pattern != 0)
    return replace(gemma2.gemma(full, eos_token_ids, slides), qk_norm=True, windowed_rope_theta=local_theta)


FAMILY = Family(
    "Gemma3ForCausalLM",
    "gemma3_text",
    {
        **gemma2.FAMILY.defaults,
        "vocab_size": 262_208,
        "max_position_embeddings": 131_072,
        "rope_theta": 1_000_000.0,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
    },
    spec,
    reads=gemma2.READS | {"rope_local_base_freq"},
    with_pictures=("Gemma3ForConditionalGeneration", "gemma3"),
    gguf=GGUFForm(
        "gemma3",
        is_windowed=lambda layer: (layer + 1) % 6 != 0,
        norm_offset=1.0,
        names=gemma2.GGUF_NAMES,
        keys={"rope.freq_base_swa": "rope_local_base_freq", "final_logit_softcapping": "final_logit_softcapping"},
        complete=lambda spec: gemma2.scaled(spec, layers_of_27b=62),
    ),
    models="Gemma 3, its text",
    kind="dense",
    beside="as Gemma 2, with norms of queries and keys for soft caps, windows in five of six layers, a rope of their "
    "own for these",
)
