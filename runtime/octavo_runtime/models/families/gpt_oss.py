"""gpt-oss: transformers' GptOssConfig. Attention sinks, every other layer in a window, YaRN, and experts with biases, a
clamped activation and weights in MXFP4."""

from dataclasses import replace

from octavo_runtime.layers.routing import Routing
from octavo_runtime.models.config_fields import ConfigFields, shown, windowed
from octavo_runtime.models.families import llama, mixtral
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.models.tensor_names import ExpertNames, TensorNames

_NAMES = ExpertNames(
    router="mlp.router.weight",
    gate_up=("mlp.experts.gate_up_proj",),
    down="mlp.experts.down_proj",
    is_transposed=True,
    alternates=True,
)


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    quantized = fields.quantization_config
    if quantized is not None and quantized.get("quant_method") != "mxfp4":
        method = shown(quantized.get("quant_method"))
        raise UnsupportedModel(f"quantization_config.quant_method must be mxfp4, got {method}")
    experts = mixtral.every_layer(fields, Routing(fields.num_local_experts, fields.num_experts_per_tok))
    return replace(
        llama.spec(fields, eos_token_ids),
        has_sinks=True,
        window=fields.sliding_window,
        windowed_layers=windowed(fields, lambda layer: layer % 2 == 0 and fields.sliding_window is not None),
        experts=replace(experts, has_biases=True, limit=fields.swiglu_limit, is_packed=quantized is not None),
        tensors=TensorNames(experts=(_NAMES,)),
    )


FAMILY = Family(
    "GptOssForCausalLM",
    "gpt_oss",
    {
        "vocab_size": 201_088,
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "num_hidden_layers": 36,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 150_000.0,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 32.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "truncate": False,
            "original_max_position_embeddings": 4096,
        },
        "sliding_window": 128,
        "attention_bias": True,
        "num_local_experts": 128,
        "num_experts_per_tok": 4,
    },
    spec,
    reads=frozenset({"num_local_experts", "quantization_config"}),
    gguf=GGUFForm(
        "gpt-oss",
        is_windowed=lambda layer: layer % 2 == 0,
        names={"post_attention_layernorm": "post_attention_norm"},
        keys=mixtral.GGUF_KEYS,
        truncates=False,
    ),
    models="gpt-oss, 20B and 120B",
    kind="experts",
    beside="router: softmax over the chosen, with a bias; attention sinks, every other layer in a window, YaRN, "
    "biases, a clamped activation; experts in MXFP4 stay packed",
)
