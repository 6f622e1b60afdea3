"""GPT-2: transformers' GPT2Config. Learned positions, LayerNorm, projections stored as [in, out]."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.families import llama
from octavo_runtime.models.families.gpt_neox import activation
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.models.tensor_names import TensorNames

_NAMES = TensorNames(
    attention_norm="ln_1",
    mlp_norm="ln_2",
    qkv=("attn.c_attn",),
    output="attn.c_proj",
    gate_up=("mlp.c_fc",),
    down="mlp.c_proj",
    is_transposed=True,
    beginnings=tuple(
        (prefix + theirs, ours)
        for prefix in ("transformer.", "")
        for theirs, ours in (
            ("wte.", "model.embed_tokens."),
            ("wpe.", "model.embed_positions."),
            ("ln_f.", "model.norm."),
            ("h.", "model.layers."),
        )
    ),
)


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    of_mlp = activation(fields)
    if not fields.scale_attn_weights or fields.scale_attn_by_inverse_layer_idx:
        raise UnsupportedModel("scale_attn_weights must be true and scale_attn_by_inverse_layer_idx false")
    inner = fields.inner_size or 4 * fields.hidden_size
    plain = fields.model_copy(update={"hidden_act": "silu", "intermediate_size": inner})
    return replace(
        llama.spec(plain, eos_token_ids),
        rms_norm_eps=fields.layer_norm_eps,
        norm="layer",
        norm_bias=True,
        unrotated_layers=frozenset(range(fields.num_hidden_layers)),
        position_offset=0,
        is_gated=False,
        activation=of_mlp,
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        tensors=_NAMES,
    )


FAMILY = Family(
    "GPT2LMHeadModel",
    "gpt2",
    {
        "vocab_size": 50_257,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 1,
        "hidden_act": "gelu_new",
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
    },
    spec,
    gguf=GGUFForm(
        "gpt2",
        names={"ln_1": "attn_norm", "ln_2": "ffn_norm", "attn.c_proj": "attn_output"},
        complete=lambda spec: replace(spec, tensors=replace(spec.tensors, is_transposed=False)),
    ),
    renamed={
        "n_embd": "hidden_size",
        "n_layer": "num_hidden_layers",
        "n_head": "num_attention_heads",
        "n_positions": "max_position_embeddings",
        "n_inner": "inner_size",
        "activation_function": "hidden_act",
        "layer_norm_epsilon": "layer_norm_eps",
    },
    models="GPT-2",
    kind="dense",
    beside="learned positions, LayerNorm, projections stored the other way round",
)
