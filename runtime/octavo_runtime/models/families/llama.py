"""Llama 2 and 3: transformers' LlamaConfig."""

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.config_rope import rope
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    if fields.hidden_act != "silu":
        raise UnsupportedModel(f"hidden_act must be silu, got {fields.hidden_act}")
    if fields.head_dim is None and fields.hidden_size % fields.num_attention_heads:
        raise UnsupportedModel(
            f"num_attention_heads must divide hidden_size ({fields.hidden_size}), got {fields.num_attention_heads}"
        )
    theta, scaling = rope(fields)
    return ModelSpec(
        vocab_size=fields.vocab_size,
        hidden_size=fields.hidden_size,
        intermediate_size=fields.intermediate_size,
        num_layers=fields.num_hidden_layers,
        num_heads=fields.num_attention_heads,
        num_kv_heads=fields.num_key_value_heads or fields.num_attention_heads,
        head_dim=fields.head_dim or fields.hidden_size // fields.num_attention_heads,
        max_position=fields.max_position_embeddings,
        rms_norm_eps=fields.rms_norm_eps,
        rope_theta=theta,
        rope_scaling=scaling,
        tie_embeddings=fields.tie_word_embeddings,
        qkv_bias=fields.attention_bias,
        output_bias=fields.attention_bias,
        mlp_bias=fields.mlp_bias,
        eos_token_ids=eos_token_ids,
    )


FAMILY = Family(
    "LlamaForCausalLM",
    "llama",
    {"intermediate_size": 11008, "max_position_embeddings": 2048},
    spec,
    gguf=GGUFForm("llama", interleaved=True, is_windowed=lambda _: True),
    models="Llama 2 and 3, SmolLM 2, Yi, DeepSeek-R1-Distill-Llama",
    kind="dense",
)
