"""ERNIE 4.5, dense: transformers' Ernie4_5Config. Heads are turned neighbour with neighbour."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.families import llama
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    biased = fields.use_bias
    return replace(
        llama.spec(fields, eos_token_ids),
        interleaved_rope=True,
        qkv_bias=biased,
        output_bias=biased,
        mlp_bias=biased,
    )


FAMILY = Family(
    "Ernie4_5ForCausalLM",
    "ernie4_5",
    {
        "vocab_size": 103_424,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 18,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "tie_word_embeddings": True,
    },
    spec,
    gguf=GGUFForm("ernie4_5"),
    models="ERNIE 4.5, dense",
    kind="dense",
    beside="heads turned neighbour with neighbour",
)
