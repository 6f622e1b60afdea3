"""Nemotron 4 and Minitron: transformers' NemotronConfig. LayerNorm around one, heads turned in part, an MLP of squared
ReLU."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.config_rope import partial_rotary
from octavo_runtime.models.families import llama
from octavo_runtime.models.families.gpt_neox import activation
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.tensor_names import TensorNames


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    of_mlp = activation(fields)
    fields, share = partial_rotary(fields, default=0.5)
    found = llama.spec(fields.model_copy(update={"hidden_act": "silu"}), eos_token_ids)
    return replace(
        found,
        rms_norm_eps=fields.norm_eps,
        norm="layer",
        norm_bias=True,
        norm_offset=1.0,
        rotary_dim=int(found.head_dim * share),
        is_gated=False,
        activation=of_mlp,
        tensors=TensorNames(gate_up=("mlp.up_proj",)),
    )


FAMILY = Family(
    "NemotronForCausalLM",
    "nemotron",
    {
        "vocab_size": 256_000,
        "hidden_size": 6144,
        "num_attention_heads": 48,
        "intermediate_size": 24_576,
        "hidden_act": "relu2",
        "max_position_embeddings": 4096,
    },
    spec,
    reads=frozenset({"partial_rotary_factor"}),
    gguf=GGUFForm("nemotron", norm_offset=1.0, turns_part=True),
    models="Nemotron 4, Minitron",
    kind="dense",
    beside="LayerNorm around one, half of each head is turned, an MLP of squared ReLU",
)
