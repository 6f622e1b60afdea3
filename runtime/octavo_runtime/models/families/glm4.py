"""GLM 4 and Z1 of 2025: transformers' Glm4Config. GLM 4 with norms behind attention and MLP too."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.families import glm
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    found = glm.spec(fields, eos_token_ids)
    sandwiched = replace(
        found.tensors, attention_post_norm="post_self_attn_layernorm", mlp_post_norm="post_mlp_layernorm"
    )
    return replace(found, tensors=sandwiched)


FAMILY = Family(
    "Glm4ForCausalLM",
    "glm4",
    glm.FAMILY.defaults,
    spec,
    reads=glm.FAMILY.reads,
    gguf=GGUFForm("glm4", turns_part=True),
    models="GLM 4 of April 2025 and GLM Z1, 9B and 32B",
    kind="dense",
    beside="as GLM 4, with norms on both sides",
)
