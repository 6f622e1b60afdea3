"""A GGUF file as a source of metadata and tensors in Hugging Face's names (format: github.com/ggml-org/ggml,
docs/gguf.md)."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import gguf
import numpy as np
import numpy.typing as npt
import torch

from octavo_kernels.quantized_linear import GROUP
from octavo_runtime.models.loading.gguf_parts import metadata, open_parts
from octavo_runtime.models.loading.gguf_spec import FORMS, ROPE_DIVISORS, gguf_spec
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.quantization.quantized_matrix import QuantizedMatrix

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
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


# Tensors that a file may hold without being read; llama.cpp reads none of them either.
_UNREAD = (
    r"blk\.\d+\.attn_rot_embd\.weight",  # a table that old converters saved; it follows from the metadata
)


class GGUFFile:
    """An open GGUF file, or the parts of one. `spec` is its model; `read` gives one tensor at a time."""

    def __init__(self, path: Path) -> None:
        parts = open_parts(path)
        self._tensors: dict[str, gguf.ReaderTensor] = {}
        for tensor in (tensor for part in parts for tensor in part.tensors):
            if tensor.name in self._tensors:
                raise UnsupportedModel(f"{path}: tensor {tensor.name} is in two of its parts")
            self._tensors[tensor.name] = tensor
        try:
            self.spec: ModelSpec = gguf_spec(parts)
            self._form = FORMS[str(metadata(parts[0], "general.architecture"))]
        except UnsupportedModel as error:
            raise UnsupportedModel(f"{path}: {error}") from None

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Holds the names, shapes and types of all tensors against those that the model reads, before any is read.
        Raises UnsupportedModel, also where a tensor is left over that nobody reads."""
        for name, shape in shapes.items():
            if not self._is_no_bias(name):
                self._check(self._name(name), shape)
        read = {ROPE_DIVISORS, *map(self._name, shapes)}
        unread = [name for name in self._tensors if name not in read and not re.fullmatch("|".join(_UNREAD), name)]
        if unread:
            raise UnsupportedModel(
                f"the GGUF file has tensors that the model does not read: {', '.join(unread[:3])}"
                + (f" and {len(unread) - 3} more" if len(unread) > 3 else "")
            )

    def read(self, name: str, shape: tuple[int, ...]) -> torch.Tensor | QuantizedMatrix:
        """The tensor of a Hugging Face name, checked against the shape that the model needs: types of 4 and 8 bits as
        they are, others in float32 or float16."""
        if self._is_no_bias(name):
            return torch.zeros(shape)
        stored = _stored(self._check(self._name(name), shape))
        if self._form.norm_offset and name.endswith("norm.weight") and isinstance(stored, torch.Tensor):
            return stored - self._form.norm_offset
        if self._form.interleaved and ".q_proj." in name:
            return _unpermute(stored, self.spec.num_heads)
        if self._form.interleaved and ".k_proj." in name:
            return _unpermute(stored, self.spec.num_kv_heads)
        return stored

    def _is_no_bias(self, name: str) -> bool:
        """Whether this is a bias that the file leaves out, as it may for any projection."""
        return name.endswith(".bias") and self._name(name) not in self._tensors

    def _name(self, name: str) -> str:
        return gguf_name(name, self._form.names)

    def _check(self, name: str, shape: tuple[int, ...]) -> gguf.ReaderTensor:
        if name not in self._tensors:
            raise UnsupportedModel(f"the GGUF file has no tensor {name}")
        tensor = self._tensors[name]
        if (found := tuple(reversed(tensor.shape.tolist()))) != shape:  # GGUF lists columns first
            raise UnsupportedModel(f"{name}: shape must be {shape}, got {found}")
        if tensor.tensor_type.name not in SUPPORTED_TYPES:
            raise UnsupportedModel(
                f"{name}: type must be one of {', '.join(SUPPORTED_TYPES)}, got {tensor.tensor_type.name}"
            )
        return tensor


def gguf_name(name: str, own: Mapping[str, str] = MappingProxyType({})) -> str:
    """token_embd.weight for model.embed_tokens.weight, blk.3.attn_q.weight for
    model.layers.3.self_attn.q_proj.weight. own: names of a layer's tensors that are not Llama's."""
    stem, _, kind = name.rpartition(".")
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", stem)
    if match:
        return f"blk.{match[1]}.{own.get(match[2]) or _NAMES[match[2]]}.{kind}"
    return f"{_NAMES[stem]}.{kind}"


def _stored(tensor: gguf.ReaderTensor) -> torch.Tensor | QuantizedMatrix:
    kind = tensor.tensor_type.name
    if kind in ("Q4_0", "Q4_1"):
        return _4_bit_groups(tensor.data, has_minimum=kind == "Q4_1")
    if kind == "Q8_0":
        return _8_bit_groups(tensor.data)
    values = tensor.data if kind == "F16" else gguf.dequantize(tensor.data, tensor.tensor_type)
    return torch.from_numpy(np.require(values, requirements=["C", "W"]))


def _4_bit_groups(data: npt.NDArray[np.uint8], *, has_minimum: bool) -> QuantizedMatrix:
    """Blocks of 32 weights: a float16 scale, in Q4_1 a float16 minimum, then 16 bytes with the first 16 weights in
    their low halves and the others in their high ones. Q4_0's weights are scale * (value - 8)."""
    head = 4 if has_minimum else 2
    blocks = data.reshape(len(data), -1, head + GROUP // 2)
    factors = torch.from_numpy(blocks[..., :head].copy().view(np.float16).astype(np.float32))
    halves = torch.from_numpy(blocks[..., head:].copy())
    values = torch.cat((halves & 15, halves >> 4), dim=-1).flatten(1)
    scales = factors[..., 0].contiguous()
    return QuantizedMatrix(values, scales, factors[..., 1].contiguous() if has_minimum else -8 * scales)


def _8_bit_groups(data: npt.NDArray[np.uint8]) -> QuantizedMatrix:
    """Blocks of 32 weights: a float16 scale and 32 signed bytes."""
    blocks = data.reshape(len(data), -1, 2 + GROUP)
    scales = torch.from_numpy(blocks[..., :2].copy().view(np.float16).astype(np.float32))
    values = torch.from_numpy(blocks[..., 2:].copy().view(np.int8))
    return QuantizedMatrix(values.flatten(1), scales.squeeze(-1), None)


def _unpermute(weight: torch.Tensor | QuantizedMatrix, heads: int) -> torch.Tensor | QuantizedMatrix:
    """GGUF's llama files interleave the two halves of each query and key head for its own rotary form; undo it."""
    rows = weight.shape[0]
    order = torch.arange(rows).view(heads, rows // heads // 2, 2).transpose(1, 2).flatten()
    return weight.rows(order) if isinstance(weight, QuantizedMatrix) else weight[order]
