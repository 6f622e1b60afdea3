"""GPT-NeoX and Pythia: transformers' GPTNeoXConfig. LayerNorm, heads turned in part, attention and MLP side by side."""

from dataclasses import replace

from octavo_runtime.layers.activation import Activation
from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.config_rope import partial_rotary
from octavo_runtime.models.families import llama
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.models.tensor_names import TensorNames

# As config.json says them.
ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu2",
    "silu": "silu",
}

_NAMES = TensorNames(
    qkv=("attention.query_key_value",),
    output="attention.dense",
    gate_up=("mlp.dense_h_to_4h",),
    down="mlp.dense_4h_to_h",
    beginnings=(
        ("gpt_neox.embed_in.", "model.embed_tokens."),
        ("gpt_neox.final_layer_norm.", "model.norm."),
        ("gpt_neox.layers.", "model.layers."),
        ("embed_out.", "lm_head."),
    ),
)


def activation(fields: ConfigFields) -> Activation:
    """The MLP's. Raises UnsupportedModel."""
    if fields.hidden_act not in ACTIVATIONS:
        raise UnsupportedModel(f"hidden_act must be one of {', '.join(ACTIVATIONS)}, got {fields.hidden_act}")
    return ACTIVATIONS[fields.hidden_act]


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    of_mlp = activation(fields)
    fields, share = partial_rotary(fields, default=0.25)
    found = llama.spec(fields.model_copy(update={"hidden_act": "silu"}), eos_token_ids)
    return replace(
        found,
        rms_norm_eps=fields.layer_norm_eps,
        norm="layer",
        norm_bias=True,
        rotary_dim=int(found.head_dim * share),
        qkv_by_groups=True,
        is_parallel=fields.use_parallel_residual,
        is_gated=False,
        activation=of_mlp,
        qkv_bias=fields.attention_bias,
        output_bias=fields.attention_bias,
        mlp_bias=True,
        tensors=_NAMES,
    )


FAMILY = Family(
    "GPTNeoXForCausalLM",
    "gpt_neox",
    {
        "vocab_size": 50_432,
        "hidden_size": 6144,
        "num_hidden_layers": 44,
        "num_attention_heads": 64,
        "intermediate_size": 24_576,
        "hidden_act": "gelu",
        "max_position_embeddings": 2048,
        "use_parallel_residual": True,
        "attention_bias": True,
    },
    spec,
    reads=frozenset({"partial_rotary_factor", "rotary_pct"}),
    gguf=GGUFForm(
        "gptneox",
        names={
            "attention.dense": "attn_output",
            "mlp.dense_h_to_4h": "ffn_up",
            "mlp.dense_4h_to_h": "ffn_down",
        },
        keys={"use_parallel_residual": "use_parallel_residual"},
        turns_part=True,
    ),
    renamed={"rotary_pct": "partial_rotary_factor", "rotary_emb_base": "rope_theta"},
    models="GPT-NeoX, Pythia, Dolly 2",
    kind="dense",
    beside="LayerNorm, heads turned in part, attention and MLP side by side, queries, keys and values stored by heads",
)
