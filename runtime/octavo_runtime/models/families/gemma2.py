"""Gemma 2: transformers' Gemma2Config. Norms on both sides of attention and MLP, soft caps, every other layer in a
window."""

import math
from dataclasses import replace
from typing import Any

from octavo_runtime.models.config_fields import ConfigFields, windowed
from octavo_runtime.models.families import llama
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.models.tensor_names import TensorNames

SANDWICHED = TensorNames(
    attention_post_norm="post_attention_layernorm",
    mlp_norm="pre_feedforward_layernorm",
    mlp_post_norm="post_feedforward_layernorm",
)
READS = frozenset({"attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar"})


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    return gemma(fields, eos_token_ids, windowed(fields, lambda layer: (layer + 1) % 2 != 0))


def gemma(fields: ConfigFields, eos_token_ids: tuple[int, ...], windowed_layers: frozenset[int]) -> ModelSpec:
    """What Gemma 2 and 3 have in common. Raises UnsupportedModel."""
    if fields.hidden_activation != "gelu_pytorch_tanh":
        raise UnsupportedModel(f"hidden_activation must be gelu_pytorch_tanh, got {fields.hidden_activation}")
    if windowed_layers and fields.sliding_window is None:
        raise UnsupportedModel("sliding_window must be given, got none")
    plain = fields.model_copy(update={"hidden_act": "silu"})  # an older name, which transformers passes over
    return replace(
        llama.spec(plain, eos_token_ids),
        attention_scale=fields.query_pre_attn_scalar**-0.5,
        attention_softcap=fields.attn_logit_softcapping,
        logits_softcap=fields.final_logit_softcapping,
        window=fields.sliding_window,
        windowed_layers=windowed_layers,
        **shared(fields.hidden_size),
    )


def shared(hidden_size: int) -> dict[str, Any]:
    """What no field says."""
    return {
        "embedding_multiplier": math.sqrt(hidden_size),
        "rounds_embedding_multiplier": True,
        "norm_offset": 1.0,
        "activation": "gelu_tanh",
        "mlp_bias": False,
        "tensors": SANDWICHED,
    }


GGUF_NAMES = {"post_attention_layernorm": "post_attention_norm"}


def scaled(spec: ModelSpec, layers_of_27b: int) -> ModelSpec:
    """With the scale of attention that a GGUF file leaves to the reader, as llama.cpp has it by the number of
    layers."""
    size = spec.hidden_size // spec.num_heads if spec.num_layers == layers_of_27b else spec.head_dim
    return replace(spec, attention_scale=size**-0.5)


FAMILY = Family(
    "Gemma2ForCausalLM",
    "gemma2",
    {
        "vocab_size": 256_000,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 8192,
        "sliding_window": 4096,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "tie_word_embeddings": True,
    },
    spec,
    reads=READS,
    gguf=GGUFForm(
        "gemma2",
        is_windowed=lambda layer: layer % 2 == 0,
        norm_offset=1.0,
        names=GGUF_NAMES,
        keys={
            "attn_logit_softcapping": "attn_logit_softcapping",
            "final_logit_softcapping": "final_logit_softcapping",
        },
        complete=lambda spec: scaled(spec, layers_of_27b=46),
    ),
    models="Gemma 2",
    kind="dense",
    beside="norms on both sides, GEGLU, soft caps, every other layer in a window",
)
