"""BLOOM: transformers' BloomConfig. ALiBi in the place of positions, LayerNorm, also of the embedding."""

from dataclasses import replace

from octavo_runtime.layers.alibi import alibi_slopes
from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.families import llama
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.models.tensor_names import TensorNames

_NAMES = TensorNames(
    qkv=("self_attention.query_key_value",),
    output="self_attention.dense",
    gate_up=("mlp.dense_h_to_4h",),
    down="mlp.dense_4h_to_h",
    beginnings=tuple(
        (prefix + theirs, ours)
        for prefix in ("transformer.", "")
        for theirs, ours in (
            ("word_embeddings.", "model.embed_tokens."),
            ("word_embeddings_layernorm.", "model.embed_norm."),
            ("ln_f.", "model.norm."),
            ("h.", "model.layers."),
        )
    ),
)


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    if fields.apply_residual_connection_post_layernorm:
        raise UnsupportedModel("apply_residual_connection_post_layernorm must be false, got true")
    found = llama.spec(fields.model_copy(update={"intermediate_size": 4 * fields.hidden_size}), eos_token_ids)
    return replace(
        found,
        rms_norm_eps=fields.layer_norm_eps,
        norm="layer",
        norm_bias=True,
        normalises_embedding=True,
        unrotated_layers=frozenset(range(found.num_layers)),
        alibi_slopes=alibi_slopes(found.num_heads),
        qkv_by_groups=True,
        is_gated=False,
        activation="gelu_tanh",
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        tensors=_NAMES,
    )


FAMILY = Family(
    "BloomForCausalLM",
    "bloom",
    {
        "vocab_size": 250_880,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "intermediate_size": 1,
        "max_position_embeddings": 2048,  # of the training; ALiBi itself has no end
        "tie_word_embeddings": True,
    },
    spec,
    gguf=GGUFForm(
        "bloom",
        names={
            "self_attention.query_key_value": "attn_qkv",
            "self_attention.dense": "attn_output",
            "mlp.dense_h_to_4h": "ffn_up",
            "mlp.dense_4h_to_h": "ffn_down",
        },
        must={"attention.max_alibi_bias": 8.0},
    ),
    renamed={
        "n_embed": "hidden_size",
        "n_layer": "num_hidden_layers",
        "n_head": "num_attention_heads",
        "seq_length": "max_position_embeddings",
        "layer_norm_epsilon": "layer_norm_eps",
    },
    models="BLOOM, BLOOMZ",
    kind="dense",
    beside="ALiBi, LayerNorm, also of the embedding; queries, keys and values stored by heads",
)
