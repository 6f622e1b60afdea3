"""Command R and Aya: transformers' CohereConfig. Attention and MLP side by side behind one LayerNorm; heads are turned
neighbour with neighbour."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.families import llama
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.tensor_names import TensorNames

READS = frozenset({"logit_scale"})


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    own = fields.model_copy(update={"head_dim": None})  # transformers passes it over
    return replace(
        llama.spec(own, eos_token_ids),
        rms_norm_eps=fields.layer_norm_eps,
        norm="layer",
        is_parallel=True,
        interleaved_rope=True,
        mlp_bias=False,
        logits_divisor=1 / fields.logit_scale,
        qk_norm=fields.use_qk_norm,
        qk_layer_norm=fields.use_qk_norm,
        tensors=TensorNames(mlp_norm=None),
    )


FAMILY = Family(
    "CohereForCausalLM",
    "cohere",
    {
        "vocab_size": 256_000,
        "hidden_size": 8192,
        "intermediate_size": 22_528,
        "num_hidden_layers": 40,
        "num_attention_heads": 64,
        "max_position_embeddings": 8192,
        "rope_theta": 500_000.0,
        "tie_word_embeddings": True,
    },
    spec,
    reads=READS | {"use_qk_norm"},
    gguf=GGUFForm("command-r", keys={"logit_scale": "logit_scale"}),
    models="Command R and R+, Aya",
    kind="dense",
    beside="LayerNorm, attention and MLP side by side, heads turned neighbour with neighbour; a LayerNorm for each "
    "head of queries and keys (R+)",
)
