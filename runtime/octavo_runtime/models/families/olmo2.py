"""OLMo 2: transformers' Olmo2Config. Norms behind attention and MLP alone, and of queries and keys in their whole
width."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.families import llama
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.tensor_names import TensorNames

BEHIND = TensorNames(
    attention_norm=None,
    attention_post_norm="post_attention_layernorm",
    mlp_norm=None,
    mlp_post_norm="post_feedforward_layernorm",
)


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    return replace(
        llama.spec(fields, eos_token_ids), qk_norm=True, qk_norm_spans_heads=True, mlp_bias=False, tensors=BEHIND
    )


FAMILY = Family(
    "Olmo2ForCausalLM",
    "olmo2",
    {
        "vocab_size": 50_304,
        "intermediate_size": 11_008,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
    },
    spec,
    gguf=GGUFForm("olmo2", names={"post_attention_layernorm": "post_attention_norm"}),
    models="OLMo 2",
    kind="dense",
    beside="norms behind attention and MLP alone, of queries and keys in their whole width",
)
