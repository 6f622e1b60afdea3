"""Phi 3, 3.5 and 4: transformers' Phi3Config. Projections stored as one, LongRoPE, and in Phi 4 mini heads that are
turned in part."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.config_rope import partial_rotary
from octavo_runtime.models.families import mistral
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.tensor_names import TensorNames

_FUSED = TensorNames(qkv=("self_attn.qkv_proj",), gate_up=("mlp.gate_up_proj",))


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    fields, share = partial_rotary(fields)
    found = mistral.spec(fields, eos_token_ids)
    return replace(
        found,
        rotary_dim=int(found.head_dim * share),
        qkv_bias=False,
        output_bias=False,
        mlp_bias=False,
        tensors=_FUSED,
    )


FAMILY = Family(
    "Phi3ForCausalLM",
    "phi3",
    {
        "vocab_size": 32_064,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "max_position_embeddings": 4096,
        "original_max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
    },
    spec,
    reads=frozenset({"partial_rotary_factor"}),
    gguf=GGUFForm("phi3", is_windowed=lambda _: True, turns_part=True),
    models="Phi 3, 3.5 and 4, dense",
    kind="dense",
    beside="LongRoPE; heads turned in part (Phi 4 mini); a window (Phi 3 mini 4k)",
)
