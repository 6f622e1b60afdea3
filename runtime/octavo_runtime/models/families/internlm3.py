"""InternLM 3: a Llama with biases on demand."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.families import llama
from octavo_runtime.models.families.internlm2 import without_dynamic_rope
from octavo_runtime.models.family import Family
from octavo_runtime.models.spec import ModelSpec


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    found = llama.spec(without_dynamic_rope(fields), eos_token_ids)
    return replace(found, qkv_bias=fields.qkv_bias, output_bias=fields.use_bias, mlp_bias=fields.use_bias)


FAMILY = Family(
    "InternLM3ForCausalLM",
    "internlm3",
    {
        "vocab_size": 128_512,
        "intermediate_size": 11_008,
        "max_position_embeddings": 32_768,
        "qkv_bias": False,
    },
    spec,
    renamed={"bias": "use_bias"},
    models="InternLM 3",
    kind="dense",
    beside="biases where the configuration says so; its GGUF files are read as Llama's",
)
