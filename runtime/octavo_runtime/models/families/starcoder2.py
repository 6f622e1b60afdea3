"""StarCoder 2: transformers' Starcoder2Config. LayerNorm, biases everywhere, an MLP without a gate, a window."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.families import mistral
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.models.tensor_names import TensorNames


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    if fields.hidden_act != "gelu_pytorch_tanh":
        raise UnsupportedModel(f"hidden_act must be gelu_pytorch_tanh, got {fields.hidden_act}")
    biased = fields.use_bias
    return replace(
        mistral.spec(fields.model_copy(update={"hidden_act": "silu"}), eos_token_ids),
        rms_norm_eps=fields.norm_epsilon,
        norm="layer",
        norm_bias=True,
        activation="gelu_tanh",
        is_gated=False,
        qkv_bias=biased,
        output_bias=biased,
        mlp_bias=biased,
        tensors=TensorNames(gate_up=("mlp.c_fc",), down="mlp.c_proj"),
    )


FAMILY = Family(
    "Starcoder2ForCausalLM",
    "starcoder2",
    {
        "vocab_size": 49_152,
        "hidden_size": 3072,
        "intermediate_size": 12_288,
        "num_hidden_layers": 30,
        "num_attention_heads": 24,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "hidden_act": "gelu_pytorch_tanh",
        "use_bias": True,
        "tie_word_embeddings": True,
    },
    spec,
    gguf=GGUFForm("starcoder2", is_windowed=lambda _: True),
    models="StarCoder 2",
    kind="dense",
    beside="LayerNorm, biases, an MLP without a gate, a window",
)
