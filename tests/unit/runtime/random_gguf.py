"""Random models of the families that GGUF files come of, such files of them, and random blocks of GGUF's types."""

from collections.abc import Callable, Container, Mapping
from typing import Any

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, PreTrainedModel

_SMALL: dict[str, Any] = {
    "vocab_size": 160,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "eos_token_id": 3,
}
CONFIG = LlamaConfig(**_SMALL)

# Where in a block its factors of float16 lie: random bits would make some of them infinite.
_FACTORS = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q2_K": (80, 82), "Q3_K": (108,),
    "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,), "IQ4_XS": (0,), "MXFP4": (),
}  # fmt: skip


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries and keys, biases too, as llama.cpp's converter stores them: the halves of each head
    interleaved."""
    rows = weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1)
    return rows.swapaxes(1, 2).reshape(weight.shape)


def write(
    path,
    model: PreTrainedModel,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    *,
    tied: bool = False,
    metadata: Callable[[gguf.GGUFWriter], None] = lambda writer: None,
    tensors: Mapping[str, np.ndarray] = {},
    leave_out: Container[str] = (),
    **writing: Any,
) -> None:
    """Writes the model as GGUF, and rounds its own weights in memory to what the file holds. metadata: adds to it.
    tensors: more of them, by GGUF's names. leave_out: some of the model's, by its own names. writing: what GGUFWriter
    takes."""
    family = model.config.model_type.removesuffix("_text")
    writer = gguf.GGUFWriter(path, family, **writing)
    [architecture] = [key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == family]
    names = gguf.get_tensor_name_map(architecture, CONFIG.num_hidden_layers)
    writer.add_context_length(CONFIG.max_position_embeddings)
    writer.add_embedding_length(CONFIG.hidden_size)
    writer.add_feed_forward_length(CONFIG.intermediate_size)
    writer.add_block_count(CONFIG.num_hidden_layers)
    writer.add_head_count(CONFIG.num_attention_heads)
    writer.add_head_count_kv(CONFIG.num_key_value_heads)
    writer.add_layer_norm_rms_eps(CONFIG.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    if family in ("qwen3", "gemma3"):
        writer.add_key_length(model.config.head_dim)
    writer.add_eos_token_id(3)
    metadata(writer)
    heads = {}
    if family == "llama":
        heads = {".q_proj.": CONFIG.num_attention_heads, ".k_proj.": CONFIG.num_key_value_heads}
    for name, parameter in model.named_parameters():
        values = parameter.detach().numpy()
        kept = kind if values.ndim == 2 else gguf.GGMLQuantizationType.F32
        packed = gguf.quantize(values, kept)
        rounded = gguf.dequantize(packed, kept)
        parameter.data = torch.from_numpy(np.array(rounded, dtype=np.float32))
        stored = next((permuted(rounded, count) for part, count in heads.items() if part in name), rounded)
        if family == "gemma3" and name.endswith("norm.weight"):
            stored = stored + 1
        if not (tied and name == "lm_head.weight") and name not in leave_out:
            writer.add_tensor(names.get_name(name, (".weight", ".bias")), gguf.quantize(stored, kept), raw_dtype=kept)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def random_model(family: type[PreTrainedConfig] = LlamaConfig, **changes: Any) -> PreTrainedModel:
    """changes: to the fields of CONFIG."""
    torch.manual_seed(0)
    model = (
        AutoModelForCausalLM.from_config(family(**{**_SMALL, **changes}), attn_implementation="eager").float().eval()
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def random_rows(kind: str, rows: int = 7, columns: int = 512) -> np.ndarray:
    """[rows, bytes] of blocks."""
    size, length = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    random = np.random.default_rng(len(kind))
    blocks = random.integers(0, 256, (rows * columns // size, length), dtype=np.uint8)
    for at in _FACTORS[kind]:
        factors = random.standard_normal((len(blocks), 1)).astype(np.float16)
        blocks[:, at : at + 2] = factors.view(np.uint8)
    if kind == "MXFP4":
        blocks[:, 0] = random.integers(110, 140, len(blocks))
    return blocks.reshape(rows, -1)
