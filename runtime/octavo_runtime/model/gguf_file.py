"""A GGUF file as a source of metadata and tensors in Hugging Face's names (format: github.com/ggml-org/ggml,
docs/gguf.md)."""

import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from octavo_runtime.model.spec import ModelSpec, UnsupportedModel, spec_from_gguf

SUPPORTED_TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1")
SKIPPED_FIELDS = (
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.merges",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.scores",
)

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


class GGUFFile:
    """An open GGUF file. `spec` is its model; `read` gives one tensor at a time, dequantised."""

    def __init__(self, path: Path) -> None:
        self._reader = gguf.GGUFReader(path)
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        fields: dict[str, Any] = {
            name: field.contents() for name, field in self._reader.fields.items() if name not in SKIPPED_FIELDS
        }
        # The metadata need not say how large the vocabulary is; the embedding always does. GGUF lists columns first.
        vocab_size = int(self._tensor("token_embd.weight").shape[1])
        self.spec: ModelSpec = spec_from_gguf(fields, vocab_size=vocab_size, tied="output.weight" not in self._tensors)

    def read(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """The tensor of a Hugging Face name, in float32 or float16, checked against the shape that the model needs."""
        tensor = self._tensor(gguf_name(name))
        if tensor.tensor_type.name not in SUPPORTED_TYPES:
            raise UnsupportedModel(
                f"{tensor.name}: type must be one of {', '.join(SUPPORTED_TYPES)}, got {tensor.tensor_type.name}"
            )
        values = tensor.data if tensor.tensor_type.name == "F16" else gguf.dequantize(tensor.data, tensor.tensor_type)
        loaded = torch.from_numpy(np.require(values, requirements=["C", "W"]))
        if tuple(loaded.shape) != shape:
            raise UnsupportedModel(f"{tensor.name}: shape must be {shape}, got {tuple(loaded.shape)}")
        if ".q_proj." in name:
            return _unpermute(loaded, self.spec.num_heads)
        if ".k_proj." in name:
            return _unpermute(loaded, self.spec.num_kv_heads)
        return loaded

    def _tensor(self, name: str) -> gguf.ReaderTensor:
        if name not in self._tensors:
            raise UnsupportedModel(f"the GGUF file has no tensor {name}")
        return self._tensors[name]


def gguf_name(name: str) -> str:
    """token_embd.weight for model.embed_tokens.weight, blk.3.attn_q.weight for
    model.layers.3.self_attn.q_proj.weight."""
    stem, _, kind = name.rpartition(".")
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", stem)
    if match:
        return f"blk.{match[1]}.{_NAMES[match[2]]}.{kind}"
    return f"{_NAMES[stem]}.{kind}"


def _unpermute(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """GGUF's llama files interleave the two halves of each query and key head for its own rotary form; undo it."""
    rows, columns = weight.shape
    return weight.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)
