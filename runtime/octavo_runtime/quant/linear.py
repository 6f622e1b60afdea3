"""A projection of the decoder, in the form that is fastest for its weights and its device."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from octavo_runtime.quant.int4_groups import GROUP, Int4Groups

# Up to this many rows a product waits for its weights to come from memory, and 4 bits a weight are fetched 4 times as
# fast as 16; above it the unpacking, which is done anew for every few rows, takes longer: docs/adr/0003.
INT4_MAX_ROWS = 4


class Linear(Protocol):
    """y = x @ weight.T + bias for x [tokens, in], y [tokens, out]."""

    @property
    def num_bytes(self) -> int:
        """Bytes of memory that the weights take."""

    def __call__(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class DenseLinear:
    """The weight as it is, [out, in]."""

    weight: Tensor
    bias: Tensor | None = None

    @property
    def num_bytes(self) -> int:
        return self.weight.nbytes + _bytes(self.bias)

    def __call__(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class PrepackedLinear:
    """A 16-bit weight in the order of oneDNN's CPU kernels, which would else reorder it at every call."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight)
        self._bias = bias
        self.num_bytes = weight.nbytes + _bytes(bias)

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.shape[0]
        padding = padded_rows(rows) - rows
        if padding:
            x = pad(x, (0, 0, 0, padding))
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return y[:rows] if padding else y


def padded_rows(rows: int) -> int:
    """The number of rows that oneDNN is given for `rows`.

    It keeps a kernel for every number it has met, of 0.6 MB for each projection's shape, and takes milliseconds to make
    one. A few dozen numbers serve all batches."""
    step = 1 if rows <= 16 else 4 if rows <= 64 else 32 if rows <= 512 else 128
    return -(-rows // step) * step


class Int4Linear:
    """4-bit groups for few rows in bfloat16 on a CPU, and the same weights in 16 bits for many."""

    def __init__(self, weight: Int4Groups, bias: Tensor | None, many_rows: Linear) -> None:
        self._weight = torch.ops.aten._convert_weight_to_int4pack_for_cpu(weight.values.int(), 2)
        # The kernel computes scale * (value - 8) + zero.
        zeros = weight.minimums + 8 * weight.scales
        self._scales_and_zeros = torch.stack((weight.scales.T, zeros.T), dim=-1).bfloat16()
        self._bias = bias
        self._many_rows = many_rows
        self.num_bytes = self._weight.nbytes + self._scales_and_zeros.nbytes + many_rows.num_bytes

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[0] > INT4_MAX_ROWS:
            return self._many_rows(x)
        y: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(x, self._weight, GROUP, self._scales_and_zeros)
        return y if self._bias is None else y.add_(self._bias)


class TiedHead:
    """The embedding as the head on a CPU. Few rows are summed in float32 from the embedding itself, which costs no more
    and keeps words apart whose scores round to the same 16-bit number; many go through the 16-bit form."""

    def __init__(self, embedding: Tensor, many_rows: Linear) -> None:
        self._embedding = embedding
        self._many_rows = many_rows
        self.num_bytes = many_rows.num_bytes

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[0] > INT4_MAX_ROWS:
            return self._many_rows(x)
        from octavo_kernels.wide_linear.cpu import wide_linear

        return wide_linear(x, self._embedding)


def build_tied_head(embedding: Tensor) -> Linear:
    """The projection of hidden states to the words' scores by the embedding [vocab, hidden], where it lies."""
    linear = build_linear(embedding, None, embedding.device, embedding.dtype)
    return TiedHead(embedding, linear) if isinstance(linear, PrepackedLinear) else linear


def build_linear(weight: Tensor | Int4Groups, bias: Tensor | None, device: torch.device, dtype: torch.dtype) -> Linear:
    """The projection of a stored weight [out, in] and its bias [out], computed in `dtype` on `device`."""
    stored = weight.dequantize() if isinstance(weight, Int4Groups) else weight
    placed = stored.to(device=device, dtype=dtype)
    if bias is not None:
        bias = bias.to(device=device, dtype=dtype)
    if not (device.type == "cpu" and _prepacks(dtype)):
        return DenseLinear(placed, bias)
    prepacked = PrepackedLinear(placed, bias)
    # The 4-bit kernel takes whole tiles of 16 rows of the weight.
    if isinstance(weight, Int4Groups) and dtype == torch.bfloat16 and weight.shape[0] % 16 == 0:
        return Int4Linear(weight, bias, prepacked)
    return prepacked


def _prepacks(dtype: torch.dtype) -> bool:
    """Whether this CPU computes with prepacked weights of a type; float32 keeps torch's own product, which the
    exactness tests are about."""
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if dtype == torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return False


def _bytes(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.nbytes
