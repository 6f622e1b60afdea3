"""StableLM 2 and Zephyr: transformers' StableLmConfig. LayerNorm, heads turned in part; side by side on demand."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.config_rope import partial_rotary
from octavo_runtime.models.families import llama
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.tensor_names import TensorNames

_NAMES = TensorNames(q_norm="self_attn.q_layernorm.norms.{}", k_norm="self_attn.k_layernorm.norms.{}")
_TOGETHER = "attn_q_norm", "attn_k_norm"  # all heads in one tensor of a GGUF file


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    fields, share = partial_rotary(fields, default=0.25)
    own = fields.model_copy(update={"head_dim": None})  # transformers passes it over
    found = llama.spec(own, eos_token_ids)
    return replace(
        found,
        rms_norm_eps=fields.layer_norm_eps,
        norm="layer",
        norm_bias=True,
        rotary_dim=int(found.head_dim * share),
        is_parallel=fields.use_parallel_residual,
        qkv_bias=fields.use_qkv_bias,
        output_bias=False,
        mlp_bias=False,
        qk_norm=fields.qk_layernorm,
        qk_layer_norm=fields.qk_layernorm,
        tensors=replace(_NAMES, mlp_norm=None) if fields.use_parallel_residual else _NAMES,
    )


FAMILY = Family(
    "StableLmForCausalLM",
    "stablelm",
    {
        "vocab_size": 50_304,
        "hidden_size": 2560,
        "intermediate_size": 6912,
        "num_key_value_heads": 32,
        "max_position_embeddings": 4096,
    },
    spec,
    reads=frozenset({"partial_rotary_factor", "qk_layernorm"}),
    gguf=GGUFForm(
        "stablelm",
        keys={"use_parallel_residual": "use_parallel_residual"},
        turns_part=True,
        complete=lambda spec: replace(spec, tensors=replace(spec.tensors, q_norm=_TOGETHER[0], k_norm=_TOGETHER[1])),
    ),
    models="StableLM 2, Zephyr",
    kind="dense",
    beside="LayerNorm, a quarter of each head is turned; a LayerNorm for each head of queries and keys (12B)",
)
