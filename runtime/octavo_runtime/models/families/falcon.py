"""Falcon 7B, 40B, 180B, 11B and RW: transformers' FalconConfig. LayerNorm; attention and MLP side by side, mostly; RW
with ALiBi in the place of the rotary embedding. Falcon 3 is a Llama."""

from dataclasses import replace

from octavo_runtime.layers.alibi import alibi_slopes
from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.families import llama
from octavo_runtime.models.families.gpt_neox import activation
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.tensor_names import TensorNames

_NAMES = TensorNames(
    qkv=("self_attention.query_key_value",),
    output="self_attention.dense",
    gate_up=("mlp.dense_h_to_4h",),
    down="mlp.dense_4h_to_h",
    beginnings=(
        ("transformer.word_embeddings.", "model.embed_tokens."),
        ("transformer.ln_f.", "model.norm."),
        ("transformer.h.", "model.layers."),
    ),
)


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    of_mlp, new = activation(fields), fields.new_decoder_architecture
    kv_heads = fields.num_key_value_heads if new else 1 if fields.multi_query else fields.num_attention_heads
    update = {
        "hidden_act": "silu",
        "intermediate_size": fields.inner_size or 4 * fields.hidden_size,
        "num_key_value_heads": kv_heads,
    }
    side_by_side = new or fields.parallel_attn
    names = _NAMES
    if new and fields.num_ln_in_parallel_attn in (None, 2):
        names = replace(names, attention_norm="ln_attn", mlp_norm="ln_mlp")
    elif side_by_side:
        names = replace(names, mlp_norm=None)
    found = llama.spec(fields.model_copy(update=update), eos_token_ids)
    if fields.alibi:
        slopes = alibi_slopes(found.num_heads, found.head_dim**-0.5)  # of scores that are still to be scaled
        found = replace(found, alibi_slopes=slopes, unrotated_layers=frozenset(range(found.num_layers)))
    return replace(
        found,
        rms_norm_eps=fields.layer_norm_eps,
        norm="layer",
        norm_bias=True,
        qkv_by_groups=True,
        is_parallel=side_by_side,
        is_gated=False,
        activation=of_mlp,
        qkv_bias=fields.use_bias,
        output_bias=fields.use_bias,
        mlp_bias=fields.use_bias,
        tensors=names,
    )


FAMILY = Family(
    "FalconForCausalLM",
    "falcon",
    {
        "vocab_size": 65_024,
        "hidden_size": 4544,
        "num_attention_heads": 71,
        "intermediate_size": 1,
        "hidden_act": "gelu",
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
    },
    spec,
    reads=frozenset({"alibi"}),
    gguf=GGUFForm(
        "falcon",
        names={
            "self_attention.dense": "attn_output",
            "mlp.dense_h_to_4h": "ffn_up",
            "mlp.dense_4h_to_h": "ffn_down",
            "ln_mlp": "attn_norm",
            "ln_attn": "attn_norm_2",
        },
        implied={"new_decoder_architecture": True},  # which can say the shape of the older ones too
    ),
    renamed={
        "num_kv_heads": "num_key_value_heads",
        "ffn_hidden_size": "inner_size",
        "activation": "hidden_act",
        "bias": "use_bias",
        "layer_norm_epsilon": "layer_norm_eps",
    },
    models="Falcon 7B, 40B, 180B, 11B, RW (Falcon 3 is a Llama)",
    kind="dense",
    beside="LayerNorm, attention and MLP side by side; ALiBi (Falcon RW)",
)
