"""A GGUF file as a source of metadata and tensors in Hugging Face's names (format: github.com/ggml-org/ggml,
docs/gguf.md)."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import gguf
import numpy as np
import torch

from octavo_runtime.models.loading.finite import check_finite
from octavo_runtime.models.loading.gguf_experts import JOINED, PACKED_KINDS, packed_experts, stored_shape
from octavo_runtime.models.loading.gguf_latents import expansion_sources
from octavo_runtime.models.loading.gguf_parts import open_parts
from octavo_runtime.models.loading.gguf_rope import LONG_ROPE, ROPE_DIVISORS
from octavo_runtime.models.loading.gguf_spec import gguf_family, gguf_spec
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.quantization.gguf_blocks import PACKED, PLAIN, quantized_matrix
from octavo_runtime.quantization.quantized_matrix import QuantizedMatrix

SUPPORTED_TYPES = (*PLAIN, *PACKED)
_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.embed_norm": "token_embd_norm",
    "model.embed_positions": "position_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.kv_b_proj": "attn_kv_b",
    "self_attn.query_layernorm": "attn_q_norm",
    "self_attn.key_layernorm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_self_attn_layernorm": "post_attention_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
    "post_mlp_layernorm": "post_ffw_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
# Projections whose biases a file may leave out.
_BIASED = ("attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


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
            _, self._form = gguf_family(parts)
        except UnsupportedModel as error:
            raise UnsupportedModel(f"{path}: {error}") from None

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Holds the names, shapes and types of all tensors against those that the model reads, before any is read.
        Raises UnsupportedModel, also where a tensor is left over that nobody reads."""
        read = {ROPE_DIVISORS, *LONG_ROPE}
        for name, shape in shapes.items():
            if not self._is_no_bias(name):
                for source, expected in self._sources(name, shape):
                    self._check(source, expected)
                    read.add(source)
        unread = [name for name in self._tensors if name not in read and not self._may_be_left(name)]
        if unread:
            raise UnsupportedModel(
                f"the GGUF file has tensors that the model does not read: {', '.join(unread[:3])}"
                + (f" and {len(unread) - 3} more" if len(unread) > 3 else "")
            )

    def read(self, name: str, shape: tuple[int, ...]) -> torch.Tensor | QuantizedMatrix:
        """The tensor of a Hugging Face name, checked against the shape that the model needs: types of 4 to 8 bits in
        groups, those of all experts with their rows under one another, others in float32 or float16. UnsupportedModel
        where it holds numbers that are none."""
        if self._is_no_bias(name):
            return torch.zeros(shape)
        sources = [self._check(source, expected) for source, expected in self._sources(name, shape)]
        if name.endswith(PACKED_KINDS):
            return packed_experts(name, [tensor.data for tensor in sources])
        found = [_stored(tensor) for tensor in sources]
        stored = found[0]
        if len(found) > 1 and name.endswith("kv_b_proj.weight"):
            parts = self._sources(name, shape)
            return _expansion(*[_dense(each).view(part) for each, (_, part) in zip(found, parts, strict=True)])
        if len(found) > 1:
            return torch.cat([each.flatten(0, -2) if each.ndim > 2 else each for each in map(_dense, found)], dim=1)
        if isinstance(stored, torch.Tensor):
            stored = stored.view(shape)
        if self._form.norm_offset and name.endswith("norm.weight") and isinstance(stored, torch.Tensor):
            return stored - self._form.norm_offset
        if self._form.interleaved and ".q_proj." in name:
            return _unpermute(stored, self.spec.num_heads)
        if self._form.interleaved and ".k_proj." in name:
            return _unpermute(stored, self.spec.num_kv_heads)
        return stored

    def _sources(self, name: str, shape: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
        """The tensors of the file that a name stands for, with their shapes."""
        own = self._name(name)
        stem = next((own.removesuffix(kind) for kind in PACKED_KINDS if own.endswith(kind)), own)
        shape = stored_shape(own, shape)
        of_latents = expansion_sources(stem, self.spec, self._tensors)
        if of_latents is not None:
            return of_latents
        for joined, parts in JOINED.items():
            if f".{joined}." in stem and stem not in self._tensors:
                half = (shape[0], shape[1] // 2, *shape[2:])
                return [(stem.replace(joined, part), half) for part in parts]
        return [(stem, shape)]

    def _may_be_left(self, name: str) -> bool:
        own = tuple(unread.replace("model.layers.", "blk.") for unread in self.spec.unread)
        return bool(re.fullmatch("|".join(_UNREAD), name)) or (bool(own) and name.startswith(own))

    def _is_no_bias(self, name: str) -> bool:
        """Whether this is a bias that the file leaves out, as it may for any projection."""
        own = self._name(name)
        return own.endswith(".bias") and own not in self._tensors and own.split(".")[-2] in _BIASED

    def _name(self, name: str) -> str:
        return gguf_name(name, self._form.names)

    def _check(self, name: str, shape: tuple[int, ...]) -> gguf.ReaderTensor:
        if name not in self._tensors:
            raise UnsupportedModel(f"the GGUF file has no tensor {name}")
        tensor = self._tensors[name]
        found = tuple(reversed(tensor.shape.tolist()))  # GGUF lists columns first
        if found != shape and (1, *found) != shape:  # a matrix of one row may be a vector
            raise UnsupportedModel(f"{name}: shape must be {shape}, got {found}")
        if tensor.tensor_type.name not in SUPPORTED_TYPES:
            raise UnsupportedModel(
                f"{name}: type must be one of {', '.join(SUPPORTED_TYPES)}, got {tensor.tensor_type.name}"
            )
        return tensor


def gguf_name(name: str, own: Mapping[str, str] = MappingProxyType({})) -> str:
    """token_embd.weight for model.embed_tokens.weight, blk.3.attn_q.weight for
    model.layers.3.self_attn.q_proj.weight. own: names of a layer's tensors that are not Llama's. What is no Hugging
    Face name, but below a layer's prefix, is GGUF's already."""
    stem, _, kind = name.rpartition(".")
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", stem)
    if match:
        return f"blk.{match[1]}.{own.get(match[2]) or _NAMES.get(match[2], match[2])}.{kind}"
    return f"{_NAMES[stem]}.{kind}"


def _stored(tensor: gguf.ReaderTensor) -> torch.Tensor | QuantizedMatrix:
    kind = tensor.tensor_type.name
    if kind in PACKED:
        matrix = quantized_matrix(kind, tensor.data.reshape(-1, tensor.data.shape[-1]))
        if matrix is not None:
            check_finite(tensor.name, matrix)
            return matrix
    values = tensor.data if kind in ("F16", "F32") else gguf.dequantize(tensor.data, tensor.tensor_type)
    found = torch.from_numpy(np.require(values, requirements=["C", "W"]))
    check_finite(tensor.name, found)
    return found


def _expansion(of_keys: torch.Tensor, of_values: torch.Tensor) -> torch.Tensor:
    """[heads * (unturned + value), rank] of a file's two tensors: each head's keys, then its values."""
    return torch.cat((of_keys.transpose(1, 2), of_values), dim=1).flatten(0, 1)


def _dense(stored: torch.Tensor | QuantizedMatrix) -> torch.Tensor:
    return stored.dequantize() if isinstance(stored, QuantizedMatrix) else stored


def _unpermute(weight: torch.Tensor | QuantizedMatrix, heads: int) -> torch.Tensor | QuantizedMatrix:
    """GGUF's llama files interleave the two halves of each query and key head for its own rotary form; undo it."""
    rows = weight.shape[0]
    order = torch.arange(rows).view(heads, rows // heads // 2, 2).transpose(1, 2).flatten()
    return weight.rows(order) if isinstance(weight, QuantizedMatrix) else weight[order]
