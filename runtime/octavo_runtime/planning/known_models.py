"""Shapes of well-known public models, to plan for one that is not on this machine."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from octavo_runtime.models.loading.config_json import spec_from_config, spec_from_folder
from octavo_runtime.models.loading.files import (
    BUILTIN_MODELS,
    DOWNLOADED,
    ModelFiles,
    default_name,
    hub_uri,
    is_here,
    locate,
)
from octavo_runtime.models.loading.selection import ModelNotFound
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.planning.description import FoundModel, described, described_as_unsupported
from octavo_runtime.planning.quantized_weights import cpu_packed_bytes


def _config(
    vocab: int, hidden: int, inner: int, layers: int, heads: int, kv_heads: int, positions: int, **more: Any
) -> dict[str, Any]:
    """The parts of a config.json that decide about memory and support."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": positions,
        "rms_norm_eps": 1e-5,
    } | more


_LLAMA_3_70B = (128_256, 8192, 28672, 80, 64, 8)
_LLAMA_3_8B = (128_256, 4096, 14336, 32, 32, 8)
_MISTRAL = {"architectures": ["MistralForCausalLM"], "sliding_window": None}
_GEMMA_2 = {"architectures": ["Gemma2ForCausalLM"]}
_GEMMA_3 = {"architectures": ["Gemma3ForCausalLM"], "sliding_window": 512}
_LARGE_GEMMA_3 = _GEMMA_3 | {"sliding_window": 1024, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
_COHERE = {"architectures": ["CohereForCausalLM"]}
_COHERE_2 = {"architectures": ["Cohere2ForCausalLM"], "sliding_window": 4096}
_STARCODER_2 = {"architectures": ["Starcoder2ForCausalLM"]}
_PHI_3 = {"architectures": ["Phi3ForCausalLM"]}
_QWEN_3_MOE = {"architectures": ["Qwen3MoeForCausalLM"], "head_dim": 128, "norm_topk_prob": True, "rope_theta": 1e6}
_GLM_4_MOE = {"architectures": ["Glm4MoeForCausalLM"], "head_dim": 128, "attention_bias": True, "n_routed_experts": 128}
_GRANITE_MOE = {"architectures": ["GraniteMoeForCausalLM"], "num_experts_per_tok": 8, "tie_word_embeddings": True}
_GPT_OSS = {"architectures": ["GptOssForCausalLM"], "head_dim": 64, "quantization_config": {"quant_method": "mxfp4"}}
_DEEPSEEK_V2 = {
    "architectures": ["DeepseekV2ForCausalLM"],
    "num_experts_per_tok": 6,
    "first_k_dense_replace": 1,
}
_DEEPSEEK_V3 = {"architectures": ["DeepseekV3ForCausalLM"]}
_FP8_BLOCKS = {"quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}}
_ONE_GROUP = {"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
_MOONLIGHT = {
    "q_lora_rank": None,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_experts_per_tok": 6,
    "moe_intermediate_size": 1408,
}
_TIED = {"tie_word_embeddings": True}

# By name on the hub, from each model's own config.json. Fine-tuned forms (-Instruct, -chat) have their base's shape.
_CONFIGS: dict[str, dict[str, Any]] = {
    "meta-llama/Llama-2-7b-hf": _config(32_000, 4096, 11008, 32, 32, 32, 4096),
    "meta-llama/Llama-2-13b-hf": _config(32_000, 5120, 13824, 40, 40, 40, 4096),
    "meta-llama/Llama-2-70b-hf": _config(32_000, 8192, 28672, 80, 64, 8, 4096),
    "meta-llama/Meta-Llama-3-8B": _config(*_LLAMA_3_8B, 8192),
    "meta-llama/Meta-Llama-3-70B": _config(*_LLAMA_3_70B, 8192),
    "meta-llama/Llama-3.1-8B": _config(*_LLAMA_3_8B, 131_072),
    "meta-llama/Llama-3.1-70B": _config(*_LLAMA_3_70B, 131_072),
    "meta-llama/Llama-3.1-405B": _config(128_256, 16384, 53248, 126, 128, 8, 131_072),
    "meta-llama/Llama-3.2-1B": _config(128_256, 2048, 8192, 16, 32, 8, 131_072, **_TIED),
    "meta-llama/Llama-3.2-3B": _config(128_256, 3072, 8192, 28, 24, 8, 131_072, **_TIED),
    "meta-llama/Llama-3.3-70B-Instruct": _config(*_LLAMA_3_70B, 131_072),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": _config(*_LLAMA_3_8B, 131_072),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B": _config(*_LLAMA_3_70B, 131_072),
    "mistralai/Mistral-7B-v0.1": _config(32_000, 4096, 14336, 32, 32, 8, 32_768, **_MISTRAL | {"sliding_window": 4096}),
    "mistralai/Mistral-7B-Instruct-v0.2": _config(32_000, 4096, 14336, 32, 32, 8, 32_768, **_MISTRAL),
    "mistralai/Mistral-7B-v0.3": _config(32_768, 4096, 14336, 32, 32, 8, 32_768, **_MISTRAL),
    "mistralai/Mistral-Nemo-Base-2407": _config(131_072, 5120, 14336, 40, 32, 8, 131_072, head_dim=128, **_MISTRAL),
    "mistralai/Mistral-Small-24B-Base-2501": _config(131_072, 5120, 32768, 40, 32, 8, 32_768, head_dim=128, **_MISTRAL),
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": _config(32_000, 2048, 5632, 22, 32, 4, 2048),
    "HuggingFaceTB/SmolLM2-135M": _config(49_152, 576, 1536, 30, 9, 3, 8192, **_TIED),
    "HuggingFaceTB/SmolLM2-360M": _config(49_152, 960, 2560, 32, 15, 5, 8192, **_TIED),
    "HuggingFaceTB/SmolLM2-1.7B": _config(49_152, 2048, 8192, 24, 32, 32, 8192, **_TIED),
    "google/gemma-2-2b": _config(256_000, 2304, 9216, 26, 8, 4, 8192, **_GEMMA_2),
    "google/gemma-2-9b": _config(256_000, 3584, 14336, 42, 16, 8, 8192, **_GEMMA_2),
    "google/gemma-2-27b": _config(
        256_000, 4608, 36864, 46, 32, 16, 8192, head_dim=128, query_pre_attn_scalar=144, **_GEMMA_2
    ),
    "google/gemma-3-270m": _config(262_144, 640, 2048, 18, 4, 1, 32_768, **_GEMMA_3),
    "google/gemma-3-1b-it": _config(262_144, 1152, 6912, 26, 4, 1, 32_768, **_GEMMA_3),
    "google/gemma-3-4b-it": _config(262_208, 2560, 10240, 34, 8, 4, 131_072, **_LARGE_GEMMA_3),
    "google/gemma-3-12b-it": _config(262_208, 3840, 15360, 48, 16, 8, 131_072, **_LARGE_GEMMA_3),
    "google/gemma-3-27b-it": _config(
        262_208, 5376, 21504, 62, 32, 16, 131_072, head_dim=128, query_pre_attn_scalar=168, **_LARGE_GEMMA_3
    ),
    "microsoft/Phi-3-mini-4k-instruct": _config(32_064, 3072, 8192, 32, 32, 32, 4096, sliding_window=2047, **_PHI_3),
    "microsoft/phi-4": _config(100_352, 5120, 17920, 40, 40, 10, 16_384, **_PHI_3),
    "allenai/OLMo-2-1124-7B": _config(100_352, 4096, 11008, 32, 32, 32, 4096, architectures=["Olmo2ForCausalLM"]),
    "baidu/ERNIE-4.5-0.3B-PT": _config(103_424, 1024, 3072, 18, 16, 2, 131_072, architectures=["Ernie4_5ForCausalLM"]),
    "CohereForAI/c4ai-command-r-v01": _config(256_000, 8192, 22528, 40, 64, 64, 131_072, **_COHERE),
    "CohereForAI/c4ai-command-r7b-12-2024": _config(
        256_000, 4096, 14336, 32, 32, 8, 131_072, logit_scale=0.25, **_COHERE | _COHERE_2
    ),
    "bigcode/starcoder2-3b": _config(49_152, 3072, 12288, 30, 24, 2, 16_384, sliding_window=4096, **_STARCODER_2),
    "bigcode/starcoder2-15b": _config(49_152, 6144, 24576, 40, 48, 4, 16_384, sliding_window=4096, **_STARCODER_2),
    "stabilityai/stablelm-2-1_6b": _config(
        100_352, 2048, 5632, 24, 32, 32, 4096, architectures=["StableLmForCausalLM"], use_qkv_bias=True
    ),
    "openai-community/gpt2": {"architectures": ["GPT2LMHeadModel"]},
    "facebook/opt-125m": {"architectures": ["OPTForCausalLM"]},
    "facebook/opt-350m": {
        "architectures": ["OPTForCausalLM"],
        "hidden_size": 1024,
        "ffn_dim": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "word_embed_proj_dim": 512,
        "do_layer_norm_before": False,
    },
    "facebook/opt-6.7b": {
        "architectures": ["OPTForCausalLM"],
        "hidden_size": 4096,
        "ffn_dim": 16_384,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
    "bigscience/bloom-560m": {
        "architectures": ["BloomForCausalLM"],
        "hidden_size": 1024,
        "n_layer": 24,
        "n_head": 16,
    },
    "EleutherAI/pythia-6.9b": _config(50_432, 4096, 16_384, 32, 32, 32, 2048, architectures=["GPTNeoXForCausalLM"]),
    "tiiuae/falcon-7b": {"architectures": ["FalconForCausalLM"]},
    "mistralai/Mixtral-8x7B-v0.1": _config(
        32_000, 4096, 14336, 32, 32, 8, 32_768, architectures=["MixtralForCausalLM"]
    ),
    "mistralai/Mixtral-8x22B-v0.1": _config(
        32_000, 6144, 16384, 56, 48, 8, 65_536, architectures=["MixtralForCausalLM"]
    ),
    "Qwen/Qwen3-30B-A3B": _config(151_936, 2048, 6144, 48, 32, 4, 40_960, moe_intermediate_size=768, **_QWEN_3_MOE),
    "Qwen/Qwen3-235B-A22B": _config(151_936, 4096, 12288, 94, 64, 4, 40_960, moe_intermediate_size=1536, **_QWEN_3_MOE),
    "Qwen/Qwen1.5-MoE-A2.7B": _config(151_936, 2048, 5632, 24, 16, 16, 8192, architectures=["Qwen2MoeForCausalLM"]),
    "allenai/OLMoE-1B-7B-0924": _config(50_304, 2048, 1024, 16, 16, 16, 4096, architectures=["OlmoeForCausalLM"]),
    "ibm-granite/granite-3.1-1b-a400m-base": _config(
        49_155, 1024, 512, 24, 16, 8, 131_072, num_local_experts=32, **_GRANITE_MOE
    ),
    "ibm-granite/granite-3.1-3b-a800m-base": _config(
        49_155, 1536, 512, 32, 24, 8, 131_072, num_local_experts=40, **_GRANITE_MOE
    ),
    "microsoft/Phi-3.5-MoE-instruct": _config(
        32_064,
        4096,
        6400,
        32,
        32,
        8,
        131_072,
        architectures=["PhimoeForCausalLM"],
        attention_bias=True,
        lm_head_bias=True,
    ),
    "zai-org/GLM-4.5-Air": _config(151_552, 4096, 10944, 46, 96, 8, 131_072, moe_intermediate_size=1408, **_GLM_4_MOE),
    "openai/gpt-oss-20b": _config(201_088, 2880, 2880, 24, 64, 8, 131_072, num_local_experts=32, **_GPT_OSS),
    "openai/gpt-oss-120b": _config(201_088, 2880, 2880, 36, 64, 8, 131_072, num_local_experts=128, **_GPT_OSS),
    "deepseek-ai/DeepSeek-V2-Lite": _config(
        102_400, 2048, 10944, 27, 16, 16, 163_840, q_lora_rank=None, moe_intermediate_size=1408, **_DEEPSEEK_V2
    ),
    "deepseek-ai/DeepSeek-V2": _config(
        102_400, 5120, 12288, 60, 128, 128, 163_840, n_routed_experts=160, moe_intermediate_size=1536, **_DEEPSEEK_V2
    ),
    "deepseek-ai/DeepSeek-V3": _config(129_280, 7168, 18432, 61, 128, 128, 163_840, **_DEEPSEEK_V3 | _FP8_BLOCKS),
    "deepseek-ai/DeepSeek-R1": _config(129_280, 7168, 18432, 61, 128, 128, 163_840, **_DEEPSEEK_V3 | _FP8_BLOCKS),
    "moonshotai/Kimi-K2-Instruct": _config(
        163_840, 7168, 18432, 61, 64, 64, 131_072, **_DEEPSEEK_V3 | _ONE_GROUP | _FP8_BLOCKS, n_routed_experts=384
    ),
    "moonshotai/Moonlight-16B-A3B-Instruct": _config(
        163_840, 2048, 11264, 27, 16, 16, 8192, **_DEEPSEEK_V3 | _ONE_GROUP | _MOONLIGHT
    ),
    "zai-org/GLM-4.7-Flash": _config(
        154_880, 2048, 10240, 47, 20, 20, 202_752, architectures=["Glm4MoeLiteForCausalLM"]
    ),
    "openbmb/MiniCPM3-4B": _config(
        73_448, 2560, 6400, 62, 40, 40, 32_768, architectures=["MiniCPM3ForCausalLM"], **_TIED
    ),
    "baidu/ERNIE-4.5-21B-A3B-PT": _config(
        103_424, 2560, 12288, 28, 20, 4, 131_072, architectures=["Ernie4_5_MoeForCausalLM"]
    ),
}

# The files of a repository that tell the shape of its model.
_DESCRIBING = ("config.json", "generation_config.json", "quantize_config.json")

_TRAINED_FURTHER = ("-hf", "-chat", "-instruct", "-it", "-pt", "-base", "-v1.0")


KNOWN_MODELS = tuple(_CONFIGS)


def find_spec(model: str) -> ModelSpec:
    """The shape of a model; see find_model."""
    return find_model(model).spec


def find_model(model: str) -> FoundModel:
    """A model on this machine (a folder with its config.json, a .gguf file, builtin://NAME), or of one in
    the table by its name on the hub, whoever its owner is. Downloads nothing. Raises ModelNotFound or UnsupportedModel,
    in one line."""
    if _is_here(model):
        return _of_files(locate(model))
    name = _hub_name(model)
    if name is None:
        builtin = ", ".join(f"builtin://{name}" for name in BUILTIN_MODELS)
        raise ModelNotFound(
            f"model: must be a folder with a config.json, a .gguf file, {builtin}, or one of "
            f"{', '.join(KNOWN_MODELS)}, got {model!r}"
        )
    return FoundModel(spec_from_config(_CONFIGS[name]), 0)


def describe(model: str) -> str:
    """The description of a model, as a line (see planning.description), also where the engine refuses it. Of one that
    would be downloaded config.json is read, or the headers of the GGUF files that serving would take, and never the
    weights; OWNER/NAME is looked for in the table first. Raises ModelNotFound."""
    source = model if _is_here(model) or _hub_name(model) else hub_uri(model) or model
    try:
        return described(_of_source(source) if source.startswith(DOWNLOADED) else find_model(model))
    except UnsupportedModel as error:
        return described_as_unsupported(" ".join(str(error).split()))


def find_config(model: str) -> dict[str, Any] | None:
    """The shape in the table that a name on the hub has, as a config.json; None for a model on this machine."""
    name = None if _is_here(model) else _hub_name(model)
    return None if name is None else _CONFIGS[name]


def serving_name(model: str) -> str:
    """What to call a model in `octavo serve`: hf://OWNER/NAME where find_spec took it from the table."""
    if _is_here(model) or model.startswith(DOWNLOADED):
        return model
    return f"hf://{model if '/' in model else _hub_name(model)}"


def _is_here(model: str) -> bool:
    return model.startswith(("builtin://", "file://")) or is_here(model)


def _hub_name(model: str) -> str | None:
    """The name in the table of a model of the same shape."""
    return next((name for name in _CONFIGS if _base_name(name) == _base_name(model)), None)


def _base_name(model: str) -> str:
    """llama-3.1-8b for hf://meta-llama/Meta-Llama-3.1-8B-Instruct@main."""
    name = model.removeprefix("hf://").partition("@")[0].rpartition("/")[2].lower().removeprefix("meta-")
    for word in _TRAINED_FURTHER:
        name = name.replace(word, "")
    return name


def _of_source(model: str) -> FoundModel:
    from octavo_runtime.models.sources.download import fetch_headers
    from octavo_runtime.models.sources.snapshot import Interrupted, Offline

    with TemporaryDirectory() as folder:
        try:
            gguf = fetch_headers(model, Path(folder))
        except (Interrupted, Offline):  # it may be in the cache, and else that says why
            gguf = None
        try:
            if gguf is not None:
                return _of_files(ModelFiles(default_name(model), Path(folder), gguf))
        except UnsupportedModel as error:
            raise UnsupportedModel(str(error).replace(f"{folder}/", "")) from None
    return _of_files(locate(model, only=_DESCRIBING))


def _of_files(files: ModelFiles) -> FoundModel:
    if files.gguf is None:
        spec = spec_from_folder(files.folder)
        return FoundModel(spec, cpu_packed_bytes(spec))
    # Imported here: it takes some tenths of a second, which other models need not pay.
    from octavo_runtime.models.loading.gguf_parts import open_parts
    from octavo_runtime.models.loading.gguf_spec import gguf_spec
    from octavo_runtime.planning.packed_weights import packed_bytes

    parts = open_parts(files.gguf)
    spec = gguf_spec(parts)
    tensors = [tensor for part in parts for tensor in part.tensors]
    return FoundModel(spec, packed_bytes(tensors, spec))
