"""InternLM 2 and 2.5: a Llama by other names, its queries, keys and values stored by groups."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.families import llama
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.tensor_names import LLAMA_NAMES, TensorNames

_NAMES = TensorNames(
    attention_norm="attention_norm",
    mlp_norm="ffn_norm",
    qkv=("attention.wqkv",),
    output="attention.wo",
    gate_up=("feed_forward.w1", "feed_forward.w3"),
    down="feed_forward.w2",
    beginnings=(("model.tok_embeddings.", "model.embed_tokens."), ("output.", "lm_head.")),
)


def without_dynamic_rope(fields: ConfigFields) -> ConfigFields:
    """Without a scaling that begins beyond max_position_embeddings, where no request comes to."""
    given = fields.rope_parameters or fields.rope_scaling or {}
    if "dynamic" not in (given.get("rope_type"), given.get("type")):
        return fields
    theta = given.get("rope_theta") or fields.rope_theta
    return fields.model_copy(update={"rope_scaling": None, "rope_parameters": None, "rope_theta": theta})


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    found = llama.spec(without_dynamic_rope(fields), eos_token_ids)
    return replace(
        found,
        qkv_bias=fields.use_bias,
        output_bias=fields.use_bias,
        mlp_bias=False,
        qkv_by_groups=True,
        tensors=_NAMES,
    )


FAMILY = Family(
    "InternLM2ForCausalLM",
    "internlm2",
    {
        "vocab_size": 103_168,
        "intermediate_size": 11_008,
        "max_position_embeddings": 2048,
        "use_bias": True,
    },
    spec,
    gguf=GGUFForm("internlm2", interleaved=True, complete=lambda spec: replace(spec, tensors=LLAMA_NAMES)),
    renamed={"bias": "use_bias"},
    models="InternLM 2 and 2.5",
    kind="dense",
    beside="names of its own; queries, keys and values stored by groups",
)
