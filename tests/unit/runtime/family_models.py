"""Small random models of the supported families, as transformers computes them."""

from pathlib import Path
from typing import Any

import torch
from expert_models import EXPERT_FAMILIES
from latent_models import LATENT_FAMILIES
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Cohere2Config,
    CohereConfig,
    Ernie4_5Config,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    Glm4Config,
    GlmConfig,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MinistralConfig,
    MistralConfig,
    NemotronConfig,
    Olmo2Config,
    OPTConfig,
    Phi3Config,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    SeedOssConfig,
    SmolLM3Config,
    StableLmConfig,
    Starcoder2Config,
)

SMALL = {
    "vocab_size": 300,
    "hidden_size": 96,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "eos_token_id": 299,
}
SEVEN_HEADS = {**SMALL, "hidden_size": 84, "num_attention_heads": 7, "num_key_value_heads": 1}
SLIDING = ["sliding_attention"]
TIED = {**SMALL, "pad_token_id": 0}  # as Gemma is
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
OLD = {name: value for name, value in SMALL.items() if name != "num_key_value_heads"}
OPT = {
    "vocab_size": 300,
    "hidden_size": 96,
    "ffn_dim": 112,
    "num_hidden_layers": 3,
    "max_position_embeddings": 256,
    "eos_token_id": 299,
    "bos_token_id": 2,
    "pad_token_id": 1,
}
FALCON = {
    "vocab_size": 300,
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "max_position_embeddings": 256,
    "eos_token_id": 299,
    "bos_token_id": 1,
}
YARN_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
FAMILIES = {
    "llama": LlamaConfig(**SMALL, tie_word_embeddings=False),
    "llama, tied embeddings": LlamaConfig(**SMALL, tie_word_embeddings=True),
    "llama, all heads their own": LlamaConfig(**{**SMALL, "num_key_value_heads": 6}),
    "llama, five heads of 80": LlamaConfig(
        **{**SMALL, "hidden_size": 160, "num_attention_heads": 5, "num_key_value_heads": 1}, head_dim=80
    ),
    "llama, biases": LlamaConfig(**SMALL, attention_bias=True, mlp_bias=True),
    "llama 3 rope": LlamaConfig(**SMALL, rope_parameters=LLAMA3_ROPE),
    "llama, linear rope": LlamaConfig(
        **SMALL, rope_parameters={"rope_type": "linear", "rope_theta": 5000.0, "factor": 2.0}
    ),
    "llama, yarn": LlamaConfig(**SMALL, rope_parameters=YARN_ROPE),
    "llama, yarn with scales": LlamaConfig(
        **SMALL, rope_parameters={**YARN_ROPE, "mscale": 1.2, "mscale_all_dim": 0.7, "truncate": False}
    ),
    "mistral": MistralConfig(**SMALL, sliding_window=None, head_dim=16),
    "mistral, window": MistralConfig(**SEVEN_HEADS, sliding_window=21, head_dim=80),
    "ministral": MinistralConfig(**SMALL, sliding_window=16, head_dim=32, layer_types=["full_attention", *2 * SLIDING]),
    "qwen 2": Qwen2Config(**SMALL),
    "qwen 2, tied embeddings": Qwen2Config(**SMALL, tie_word_embeddings=True),
    "qwen 2, windows": Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=33, max_window_layers=1),
    "qwen 3": Qwen3Config(**SMALL, head_dim=32),
    "qwen 3, biases": Qwen3Config(**SMALL, head_dim=80, attention_bias=True),
    "qwen 3, windows": Qwen3Config(
        **SMALL, head_dim=32, use_sliding_window=True, sliding_window=7, max_window_layers=2
    ),
    "seed-oss": SeedOssConfig(**SMALL, head_dim=32),
    "seed-oss, output bias": SeedOssConfig(**SMALL, head_dim=32, attention_bias=False, attention_out_bias=True),
    "smollm 3": SmolLM3Config(**{**SMALL, "num_hidden_layers": 5}, pad_token_id=0),
    "smollm 3, chosen layers": SmolLM3Config(**SMALL, no_rope_layers=[0, 1, 0], pad_token_id=0),
    "smollm 3, windows": SmolLM3Config(
        **SMALL, no_rope_layers=[0, 1, 0], pad_token_id=0, use_sliding_window=True, sliding_window=20
    ),
    "gemma 2": Gemma2Config(**TIED, head_dim=32, sliding_window=16, query_pre_attn_scalar=24),
    "gemma 2, close caps": Gemma2Config(
        **{**TIED, "num_attention_heads": 7, "num_key_value_heads": 1, "hidden_size": 84},
        head_dim=80,
        sliding_window=50,
        attn_logit_softcapping=1.5,
        final_logit_softcapping=2.0,
    ),
    "gemma 3": Gemma3TextConfig(
        **TIED,
        head_dim=32,
        sliding_window=16,
        query_pre_attn_scalar=24,
        layer_types=[*SLIDING, "full_attention", *SLIDING],
    ),
    "gemma 3, scaled rope": Gemma3TextConfig(
        **{**TIED, "num_hidden_layers": 7, "hidden_size": 48, "num_attention_heads": 2, "num_key_value_heads": 1},
        head_dim=256,
        sliding_window=21,
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e5},
            "sliding_attention": {"rope_type": "default", "rope_theta": 5e3},
        },
    ),
    "phi 3": Phi3Config(**TIED),
    "phi 3, window": Phi3Config(**{**SEVEN_HEADS, "pad_token_id": 0}, sliding_window=21),
    "phi 3, longrope": Phi3Config(
        **{**TIED, "max_position_embeddings": 1024},
        original_max_position_embeddings=256,
        partial_rotary_factor=0.75,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 1e4,
            "short_factor": [1.0 + 0.3 * pair for pair in range(6)],
            "long_factor": [2.0 + pair for pair in range(6)],
            "partial_rotary_factor": 0.75,
        },
    ),
    "olmo 2": Olmo2Config(**TIED),
    "olmo 2, biases": Olmo2Config(**{**SEVEN_HEADS, "pad_token_id": 0}, attention_bias=True),
    "glm": GlmConfig(**TIED, head_dim=32),
    "glm, no biases": GlmConfig(**TIED, head_dim=80, attention_bias=False, partial_rotary_factor=0.25),
    "glm 4": Glm4Config(**{**SEVEN_HEADS, "pad_token_id": 0}, head_dim=80),
    "ernie 4.5": Ernie4_5Config(**SMALL, head_dim=32),
    "ernie 4.5, biases": Ernie4_5Config(**SEVEN_HEADS, head_dim=80, use_bias=True, tie_word_embeddings=False),
    "command r": CohereConfig(**TIED, logit_scale=0.25),
    "command r, biases": CohereConfig(
        **{**SEVEN_HEADS, "hidden_size": 560, "pad_token_id": 0}, attention_bias=True, tie_word_embeddings=False
    ),
    "command r plus": CohereConfig(**TIED, logit_scale=0.25, use_qk_norm=True),
    "command r7b": Cohere2Config(**{**TIED, "num_hidden_layers": 5}, sliding_window=21, logit_scale=0.3),
    "starcoder 2": Starcoder2Config(**TIED),
    "starcoder 2, window": Starcoder2Config(
        **{**SEVEN_HEADS, "pad_token_id": 0}, sliding_window=16, use_bias=False, tie_word_embeddings=False
    ),
    "stablelm": StableLmConfig(**TIED, partial_rotary_factor=0.5),
    "stablelm, side by side": StableLmConfig(
        **{**SEVEN_HEADS, "hidden_size": 560}, use_parallel_residual=True, use_qkv_bias=True
    ),
    "stablelm, 12b": StableLmConfig(**TIED, partial_rotary_factor=0.25, use_parallel_residual=True, qk_layernorm=True),
    "granite": GraniteConfig(
        **SMALL, embedding_multiplier=6.0, attention_multiplier=0.1, residual_multiplier=0.22, logits_scaling=4.0
    ),
    "granite, biases": GraniteConfig(
        **SMALL, attention_bias=True, mlp_bias=True, attention_multiplier=0.25, tie_word_embeddings=True
    ),
    "gpt neox": GPTNeoXConfig(**OLD, rotary_pct=0.5, use_parallel_residual=True),
    "gpt neox, in turn": GPTNeoXConfig(**OLD, rotary_pct=0.25, use_parallel_residual=False, attention_bias=False),
    "gpt 2": GPT2Config(vocab_size=300, n_embd=96, n_layer=3, n_head=6, n_positions=256, eos_token_id=299),
    "gpt 2, another inner width": GPT2Config(
        vocab_size=300, n_embd=84, n_layer=2, n_head=7, n_positions=256, n_inner=56, eos_token_id=299
    ),
    "opt": OPTConfig(**OPT, num_attention_heads=6, word_embed_proj_dim=96),
    "opt, no biases": OPTConfig(**OPT, num_attention_heads=2, enable_bias=False, activation_function="gelu"),
    "opt 350m": OPTConfig(**OPT, num_attention_heads=6, word_embed_proj_dim=56, do_layer_norm_before=False),
    "falcon": FalconConfig(**FALCON, multi_query=True, parallel_attn=True),
    "falcon, in turn": FalconConfig(**FALCON, multi_query=False, parallel_attn=False, bias=True),
    "falcon, new": FalconConfig(**FALCON, new_decoder_architecture=True, num_kv_heads=2),
    "falcon, new, one norm": FalconConfig(
        **FALCON, new_decoder_architecture=True, num_kv_heads=3, num_ln_in_parallel_attn=1, ffn_hidden_size=120
    ),
    "falcon, alibi": FalconConfig(**FALCON, multi_query=False, parallel_attn=False, bias=True, alibi=True),
    "bloom": BloomConfig(vocab_size=300, hidden_size=96, n_layer=3, n_head=6, seq_length=256, eos_token_id=299),
    "nemotron": NemotronConfig(**SMALL, head_dim=32),
    "nemotron, biases": NemotronConfig(**SEVEN_HEADS, attention_bias=True, mlp_bias=True, partial_rotary_factor=1.0),
    **EXPERT_FAMILIES,
    **LATENT_FAMILIES,
}


def save(config: PretrainedConfig, folder: Path, spread: float = 0.05) -> torch.nn.Module:
    """A random model on disk and in memory; see `random`."""
    model = random(config, spread)
    model.save_pretrained(folder)
    return model


def random(config: PretrainedConfig, spread: float = 0.05, **changes: Any) -> PreTrainedModel:
    """A random model; biases, norms and routers' corrections are random too, so that none can be left out unseen.
    spread: of what is added to every tensor; the more, the more each part of a layer tells in the scores. changes: to
    fields of the configuration.

    transformers' other form of attention has no soft caps; its eager form of Falcon adds ALiBi twice."""
    torch.manual_seed(0)
    if changes:
        config = type(config)(**{**config.to_dict(), **changes})
    form = "sdpa" if getattr(config, "alibi", False) else "eager"
    model = AutoModelForCausalLM.from_config(config, attn_implementation=form).float().eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(torch.randn_like(tensor) * spread)
    return model
