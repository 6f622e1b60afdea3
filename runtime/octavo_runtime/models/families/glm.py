"""GLM 4, of 9B: transformers' GlmConfig. The first half of each head is turned, neighbour with neighbour."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.config_rope import partial_rotary
from octavo_runtime.models.families import llama
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.tensor_names import TensorNames


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    fields, share = partial_rotary(fields, default=0.5)
    found = llama.spec(fields, eos_token_ids)
    return replace(
        found,
        rotary_dim=int(found.head_dim * share),
        interleaved_rope=True,
        output_bias=False,
        mlp_bias=False,
        tensors=TensorNames(gate_up=("mlp.gate_up_proj",)),
    )


FAMILY = Family(
    "GlmForCausalLM",
    "glm",
    {
        "vocab_size": 151_552,
        "intermediate_size": 13_696,
        "num_hidden_layers": 40,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1.5625e-7,
        "attention_bias": True,
    },
    spec,
    reads=frozenset({"partial_rotary_factor"}),
    gguf=GGUFForm("chatglm", turns_part=True),
    models="GLM 4, 9B",
    kind="dense",
    beside="half of each head is turned, neighbour with neighbour",
)
