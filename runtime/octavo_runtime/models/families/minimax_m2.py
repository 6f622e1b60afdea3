"""MiniMax M2: transformers' MiniMaxM2Config. Norms of queries and keys in their whole width, heads turned in part, and
a router whose sigmoids are corrected for the choice."""

from dataclasses import replace

from octavo_runtime.layers.routing import Routing
from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.config_rope import partial_rotary
from octavo_runtime.models.families import llama, mixtral
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.tensor_names import ExpertNames, TensorNames

_HELD = replace(ExpertNames().stacked(), correction="mlp.e_score_correction_bias")


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    fields, share = partial_rotary(fields)
    found = llama.spec(fields, eos_token_ids)
    routing = Routing(fields.num_local_experts, fields.num_experts_per_tok, scores="sigmoid", has_correction=True)
    return replace(
        found,
        rotary_dim=fields.rotary_dim or int(found.head_dim * share),
        qkv_bias=False,
        output_bias=False,
        mlp_bias=False,
        qk_norm=True,
        qk_norm_spans_heads=True,
        experts=mixtral.every_layer(fields, routing),
        tensors=TensorNames(experts=(mixtral.BLOCK_SPARSE, _HELD)),
    )


FAMILY = Family(
    "MiniMaxM2ForCausalLM",
    "minimax_m2",
    {
        "vocab_size": 200_064,
        "hidden_size": 3072,
        "intermediate_size": 1536,
        "num_hidden_layers": 62,
        "num_attention_heads": 48,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 196_608,
        "rope_theta": 5_000_000.0,
        "num_local_experts": 256,
        "num_experts_per_tok": 8,
    },
    spec,
    reads=frozenset({"num_local_experts", "partial_rotary_factor", "use_qk_norm"}),
    gguf=GGUFForm(
        "minimax-m2",
        keys=mixtral.GGUF_KEYS,
        must={"expert_gating_func": 2},
        turns_part=True,
    ),
    models="MiniMax M2",
    kind="experts",
    beside="router: sigmoids, corrected for the choice; divided by their sum; norms of queries and keys in their whole "
    "width, heads turned in part (`rotary_dim`); published in FP8",
)
