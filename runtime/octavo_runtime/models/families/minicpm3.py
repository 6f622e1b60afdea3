"""MiniCPM 3: transformers' MiniCPM3Config. Latent attention, whose rotary embedding turns halves; embedding, branches
and scores have scales of their own."""

import math
from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.families import deepseek_v2
from octavo_runtime.models.family import Family, GGUFForm
from octavo_runtime.models.spec import ModelSpec


def spec(fields: ConfigFields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    found = deepseek_v2.latent(fields, eos_token_ids)
    depth = fields.scale_depth or math.sqrt(fields.num_hidden_layers)
    return replace(
        found,
        interleaved_rope=False,
        embedding_multiplier=fields.scale_emb,
        rounds_embedding_multiplier=True,
        residual_multiplier=depth / math.sqrt(fields.num_hidden_layers),
        logits_divisor=fields.hidden_size / (fields.dim_model_base or fields.hidden_size),
    )


FAMILY = Family(
    "MiniCPM3ForCausalLM",
    "minicpm3",
    {
        "vocab_size": 73_448,
        "hidden_size": 2560,
        "intermediate_size": 6400,
        "num_hidden_layers": 62,
        "num_attention_heads": 40,
        "max_position_embeddings": 32_768,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "kv_lora_rank": 256,
        "q_lora_rank": 768,
        "qk_nope_head_dim": 64,
        "qk_rope_head_dim": 32,
    },
    spec,
    gguf=GGUFForm("minicpm3", turns_part=True, is_latent=True),
    reads=frozenset({"scale_emb", "scale_depth", "dim_model_base"}),
    models="MiniCPM 3",
    kind="latent",
    beside="dense; scales of the embedding, the branches and the scores; LongRoPE",
)
