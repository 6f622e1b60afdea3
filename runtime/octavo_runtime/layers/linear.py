"""A projection of the decoder, in the form that is fastest for its weights and its device."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from octavo_kernels.quantized_linear import PackedGroups, pack, quantized_linear
from octavo_kernels.skinny_linear import MOST_ROWS, fits, skinny_linear
from octavo_runtime.quantization.quantized_matrix import QuantizedMatrix

# Up to this many rows a product on a CPU waits for its weights to come from memory, where fewer bits come faster; above
# it their unpacking, which is done anew for every two rows, takes longer: docs/adr/0003.
FEW_ROWS = 16
# From this many rows on, a CPU without products of bfloat16 is faster with a float32 copy of the weight, made at each
# call: docs/adr/0003.
MANY_ROWS = 96


class Linear(Protocol):
    """y = x @ weight.T + bias for x [tokens, in], y [tokens, out]. out: where to write y; allocated if None."""

    @property
    def num_bytes(self) -> int:
        """Bytes of memory that the weights take."""

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True)
class DenseLinear:
    """The weight as it is, [out, in]. streams: products of up to MOST_ROWS rows are skinny_linear's."""

    weight: Tensor
    bias: Tensor | None = None
    streams: bool = False

    @property
    def num_bytes(self) -> int:
        return self.weight.nbytes + _bytes(self.bias)

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        if self.streams and 0 < len(x) <= MOST_ROWS:
            return skinny_linear(x, self.weight, self.bias, out)
        if out is None:
            return linear(x, self.weight, self.bias)
        if self.bias is None:
            return torch.mm(x, self.weight.t(), out=out)
        return torch.addmm(self.bias, x, self.weight.t(), out=out)


class PrepackedLinear:
    """A 16-bit weight in the order of oneDNN's CPU kernels, which would else reorder it at every call."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight)
        self._bias = bias
        self._widens = weight.dtype == torch.bfloat16 and not _multiplies_bfloat16()
        self.num_bytes = weight.nbytes + _bytes(bias)

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        rows = x.shape[0]
        if self._widens and rows >= MANY_ROWS:
            bias = None if self._bias is None else self._bias.float()
            return linear(x.float(), self._weight.to_dense(torch.float32), bias).to(x.dtype)
        padding = padded_rows(rows) - rows
        if padding:
            x = pad(x, (0, 0, 0, padding))
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        y = y[:rows] if padding else y
        return y if out is None else out.copy_(y)


@dataclass(frozen=True)
class PackedLinear:
    """A weight in groups as it is packed for few rows on a CPU. Computes in float32; bias: [out] float32."""

    weight: PackedGroups
    bias: Tensor | None = None

    @property
    def num_bytes(self) -> int:
        return self.weight.data.nbytes + _bytes(self.bias)

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        y = quantized_linear(x, self.weight, self.bias)
        return y if out is None else out.copy_(y)


def padded_rows(rows: int) -> int:
    """The number of rows that oneDNN is given for `rows`.

    It keeps a kernel for every number it has met, of 0.6 MB for each projection's shape, and takes milliseconds to make
    one. A few dozen numbers serve all batches."""
    step = 1 if rows <= 16 else 4 if rows <= 64 else 32 if rows <= 512 else 128
    return -(-rows // step) * step


def build_linear(
    weight: Tensor | QuantizedMatrix, bias: Tensor | None, device: torch.device, dtype: torch.dtype
) -> Linear:
    """The projection of a stored weight [out, in] and its bias [out], computed in `dtype` on `device`."""
    stored = weight.dequantize() if isinstance(weight, QuantizedMatrix) else weight
    placed = stored.to(device=device, dtype=dtype)
    if bias is not None:
        bias = bias.to(device=device, dtype=dtype)
    if device.type == "cpu" and _prepacks(dtype):
        return PrepackedLinear(placed, bias)
    return DenseLinear(placed, bias, streams=fits(placed))


def packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether weights in groups are kept as such too, for few rows. float32 computes from what they dequantise to, as
    the references of the exactness tests do."""
    return device.type == "cpu" and dtype != torch.float32


def pack_linear(weight: QuantizedMatrix, bias: Tensor | None = None) -> PackedLinear:
    """The projection of a stored weight [out, in] and its bias [out] for few rows."""
    packed = pack(weight.values, weight.scales, weight.minimums)
    return PackedLinear(packed, None if bias is None else bias.float())


def _prepacks(dtype: torch.dtype) -> bool:
    """Whether this CPU computes with prepacked weights of a type; float32 keeps torch's own product, which the
    exactness tests are about."""
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if dtype == torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return False


def _multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16. Where it has none but AVX-512, oneDNN works with
    them all the same, several times slower than with float32."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return True  # oneDNN says by itself whether it can
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _bytes(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.nbytes
