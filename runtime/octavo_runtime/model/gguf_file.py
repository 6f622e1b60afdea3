"""A GGUF file as a source of metadata and tensors in Hugging Face's names (format: github.com/ggml-org/ggml,
docs/gguf.md)."""

import re
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import torch

from octavo_kernels.grouped_linear import GROUP
from octavo_runtime.model.gguf_spec import gguf_spec
from octavo_runtime.model.spec import ModelSpec, UnsupportedModel
from octavo_runtime.quant.groups import Groups

SUPPORTED_TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1")
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
    """An open GGUF file. `spec` is its model; `read` gives one tensor at a time."""

    def __init__(self, path: Path) -> None:
        self._reader = _Reader(path)
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self.spec: ModelSpec = gguf_spec(self._reader)

    def read(self, name: str, shape: tuple[int, ...]) -> torch.Tensor | Groups:
        """The tensor of a Hugging Face name, checked against the shape that the model needs: types of 4 and 8 bits as
        they are, others in float32 or float16."""
        tensor = self._tensor(gguf_name(name))
        stored = _stored(tensor)
        if tuple(stored.shape) != shape:
            raise UnsupportedModel(f"{tensor.name}: shape must be {shape}, got {tuple(stored.shape)}")
        if name.endswith(".q_proj.weight"):
            return _unpermute(stored, self.spec.num_heads)
        if name.endswith(".k_proj.weight"):
            return _unpermute(stored, self.spec.num_kv_heads)
        return stored

    def _tensor(self, name: str) -> gguf.ReaderTensor:
        if name not in self._tensors:
            raise UnsupportedModel(f"the GGUF file has no tensor {name}")
        return self._tensors[name]


class _Reader(gguf.GGUFReader):  # type: ignore[misc] # gguf is untyped
    """gguf's reader on plain views of the file. It maps the file with np.memmap, whose views take several times as
    long to make, and makes some for each word of the vocabulary: 1.4 s of smollm2's 2 s."""

    @property
    def data(self) -> npt.NDArray[np.uint8]:
        return self._data

    @data.setter
    def data(self, mapped: npt.NDArray[np.uint8]) -> None:
        self._data = np.asarray(mapped)


def gguf_name(name: str) -> str:
    """token_embd.weight for model.embed_tokens.weight, blk.3.attn_q.weight for
    model.layers.3.self_attn.q_proj.weight."""
    stem, _, kind = name.rpartition(".")
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", stem)
    if match:
        return f"blk.{match[1]}.{_NAMES[match[2]]}.{kind}"
    return f"{_NAMES[stem]}.{kind}"


def _stored(tensor: gguf.ReaderTensor) -> torch.Tensor | Groups:
    kind = tensor.tensor_type.name
    if kind not in SUPPORTED_TYPES:
        raise UnsupportedModel(f"{tensor.name}: type must be one of {', '.join(SUPPORTED_TYPES)}, got {kind}")
    if kind in ("Q4_0", "Q4_1"):
        return _4_bit_groups(tensor.data, has_minimum=kind == "Q4_1")
    if kind == "Q8_0":
        return _8_bit_groups(tensor.data)
    values = tensor.data if kind == "F16" else gguf.dequantize(tensor.data, tensor.tensor_type)
    return torch.from_numpy(np.require(values, requirements=["C", "W"]))


def _4_bit_groups(data: npt.NDArray[np.uint8], *, has_minimum: bool) -> Groups:
    """Blocks of 32 weights: a float16 scale, in Q4_1 a float16 minimum, then 16 bytes with the first 16 weights in
    their low halves and the others in their high ones. Q4_0's weights are scale * (value - 8)."""
    head = 4 if has_minimum else 2
    blocks = data.reshape(len(data), -1, head + GROUP // 2)
    factors = torch.from_numpy(blocks[..., :head].copy().view(np.float16).astype(np.float32))
    halves = torch.from_numpy(blocks[..., head:].copy())
    values = torch.cat((halves & 15, halves >> 4), dim=-1).flatten(1)
    scales = factors[..., 0].contiguous()
    return Groups(values, scales, factors[..., 1].contiguous() if has_minimum else -8 * scales)


def _8_bit_groups(data: npt.NDArray[np.uint8]) -> Groups:
    """Blocks of 32 weights: a float16 scale and 32 signed bytes."""
    blocks = data.reshape(len(data), -1, 2 + GROUP)
    scales = torch.from_numpy(blocks[..., :2].copy().view(np.float16).astype(np.float32))
    values = torch.from_numpy(blocks[..., 2:].copy().view(np.int8))
    return Groups(values.flatten(1), scales.squeeze(-1), None)


def _unpermute(weight: torch.Tensor | Groups, heads: int) -> torch.Tensor | Groups:
    """GGUF's llama files interleave the two halves of each query and key head for its own rotary form; undo it."""
    rows = weight.shape[0]
    order = torch.arange(rows).view(heads, rows // heads // 2, 2).transpose(1, 2).flatten()
    return weight.rows(order) if isinstance(weight, Groups) else weight[order]
