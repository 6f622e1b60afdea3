"""OPT: transformers' OPTConfig. Learned positions behind two unused ones, LayerNorm, an MLP of ReLU. The size of 350m
has its norms behind attention and MLP, and words of half its width."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.families import llama
from octavo_runtime.models.families.gpt_neox import activation
from octavo_runtime.models.family import Family
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.tensor_names import TensorNames

_OFFSET = 2
_NAMES = TensorNames(
    attention_norm="self_attn_layer_norm",
    mlp_norm="final_layer_norm",
    output="self_attn.out_proj",
    gate_up=("fc1",),
    down="fc2",
    beginnings=tuple(
        (prefix + theirs, ours)
        for prefix in ("model.decoder.", "decoder.")
        for theirs, ours in (("final_layer_norm.", "model.norm."), ("", "model."))
    ),
)


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    of_mlp = activation(fields)
    words = fields.word_embed_proj_dim
    biased = fields.use_bias
    return replace(
        llama.spec(fields.model_copy(update={"hidden_act": "silu"}), eos_token_ids),
        rms_norm_eps=1e-5,
        norm="layer",
        norm_bias=True,
        unrotated_layers=frozenset(range(fields.num_hidden_layers)),
        position_offset=_OFFSET,
        projected_words=None if words == fields.hidden_size else words,
        is_post_norm=not fields.do_layer_norm_before,
        is_gated=False,
        activation=of_mlp,
        qkv_bias=biased,
        output_bias=biased,
        mlp_bias=biased,
        tensors=_NAMES,
    )


FAMILY = Family(
    "OPTForCausalLM",
    "opt",
    {
        "vocab_size": 50_272,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "relu",
        "max_position_embeddings": 2048,
        "use_bias": True,
        "tie_word_embeddings": True,
    },
    spec,
    renamed={"ffn_dim": "intermediate_size", "activation_function": "hidden_act", "enable_bias": "use_bias"},
    models="OPT",
    kind="dense",
    beside="learned positions, LayerNorm, an MLP of ReLU; norms behind attention and MLP (350m)",
)
