"""A projection of the decoder, in the form that is fastest for its weights and its device."""

import warnings
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from octavo_kernels.begun_norm import BegunNorm
from octavo_kernels.gate_mul import GatedActivation
from octavo_kernels.gated_linear import fits as fits_gated
from octavo_kernels.gated_linear import gated_linear
from octavo_kernels.grouped_linear import (
    GroupedWeights,
    gates,
    grouped_add_linear,
    grouped_linear,
    grouped_rotary_write_kv,
    multiplies_rounded,
    norms,
    placed,
    rounded_linear,
    turns,
)
from octavo_kernels.quantized_linear import PackedGroups, pack, side_by_side
from octavo_kernels.skinny_linear import (
    MOST_ROWS,
    fits,
    skinny_add_linear,
    skinny_linear,
    skinny_rotary_write_kv,
)
from octavo_runtime.layers.grouped_weights import grouped_weights
from octavo_runtime.quantization.grouped_matrix import GroupedMatrix
from octavo_runtime.quantization.quantized_matrix import Quantized, QuantizedMatrix, QuantizedRows
from octavo_runtime.quantization.scheme import ROUNDED_ROWS

StoredWeight = Tensor | Quantized | GroupedMatrix  # [out, in]

# Up to this many rows a product on a CPU waits for its weights to come from memory, where fewer bits come faster; above
# it their unpacking, which is done anew for every few rows, takes longer: docs/adr/0003.
FEW_ROWS = 16
# From this many rows on, a CPU without products of bfloat16 is faster with a float32 copy of the weight, made at each
# call: docs/adr/0003.
MANY_ROWS = 96
# From this many rows on, a CPU without products of 16 bits is faster with a float32 copy of the weight, likewise.
WIDENED_ROWS = 32


class HeadsPlace(NamedTuple):
    """Where queries, keys and values go, and how they are turned: see `skinny_rotary_write_kv`."""

    q: Tensor
    positions: Tensor
    cos_sin: Tensor
    k_cache: Tensor
    v_cache: Tensor
    slots: Tensor


class Linear(Protocol):
    """y = x @ weight.T + bias for x [tokens, in], y [tokens, out]. out: where to write y; allocated if None."""

    @property
    def num_bytes(self) -> int:
        """Bytes of memory that the weights take."""

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True)
class DenseLinear:
    """The weight as it is, [out, in]. streams: products of few rows are skinny_linear's. widens: those of WIDENED_ROWS
    and more are computed in float32."""

    weight: Tensor
    bias: Tensor | None = None
    streams: bool = False
    widens: bool = False

    @property
    def num_bytes(self) -> int:
        return self.weight.nbytes + _bytes(self.bias)

    def streams_for(self, x: Tensor | BegunNorm) -> bool:
        """Whether skinny_linear multiplies x [tokens, in] by the weight."""
        return self.streams and 0 < len(x) <= MOST_ROWS

    def turns_for(self, x: Tensor | BegunNorm) -> bool:
        """Whether skinny_rotary_write_kv turns what the product of x [tokens, in] and the weight brings."""
        return self.streams_for(x)

    def gates_for(self, x: Tensor | BegunNorm) -> bool:
        """Whether a gate is computed with the product of x [tokens, in] and the weight."""
        return self.streams_for(x) or (self.streams and fits_gated(len(x), self.weight))

    def adds_to(self, stream: Tensor) -> bool:
        """Whether the product is best added to the residual stream [tokens, out] by the one who multiplies: that saves
        the GPU one of the passes over the stream."""
        return stream.is_cuda and self.bias is None and stream.dtype == self.weight.dtype and len(stream) > MOST_ROWS

    def ends_norm(self, stream: Tensor) -> bool:
        """Whether the product of a stream [tokens, in] can end its RMSNorm."""
        return self.streams_for(stream)

    def begins_norm(self, stream: Tensor) -> bool:
        """Whether `begin_norm` can be: in bfloat16."""
        return self.streams_for(stream) and self.bias is None and stream.dtype == self.weight.dtype == torch.bfloat16

    def begin_norm(self, stream: Tensor, x: Tensor, norm_weight: Tensor, eps: float, offset: float) -> BegunNorm:
        """Adds the product to the stream [tokens, out], and begins its RMSNorm."""
        return skinny_add_linear(x, self.weight, stream, norm_weight, eps, offset)

    def gated(self, x: Tensor | BegunNorm, gate: GatedActivation) -> Tensor:
        """What gate_mul makes of the product, where `gates_for` says so."""
        if isinstance(x, BegunNorm) or self.streams_for(x):
            return skinny_linear(x, self.weight, self.bias, gate=gate)
        return gated_linear(x, self.weight, gate, self.bias)

    def turned(self, x: Tensor | BegunNorm, place: HeadsPlace) -> None:
        """What rotary_write_kv makes of the product, which is queries, keys and values, where `turns_for` says so."""
        skinny_rotary_write_kv(x, self.weight, self.bias, *place)

    def add_to(self, stream: Tensor, x: Tensor) -> None:
        """Adds the product to the stream, in float32 until both are rounded together."""
        torch.addmm(stream, x, self.weight.t(), out=stream)

    def __call__(self, x: Tensor | BegunNorm, out: Tensor | None = None) -> Tensor:
        if isinstance(x, BegunNorm) or self.streams_for(x):
            return skinny_linear(x, self.weight, self.bias, out)
        if self.widens and len(x) >= WIDENED_ROWS:
            return _in_float32(x, self.weight.float(), self.bias, out)
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
            return _in_float32(x, self._weight.to_dense(torch.float32), self._bias, out)
        padding = padded_rows(rows) - rows
        if padding:
            x = pad(x, (0, 0, 0, padding))
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        y = y[:rows] if padding else y
        return y if out is None else out.copy_(y)


@dataclass(frozen=True)
class PackedLinear:
    """A weight in groups as it is packed on a CPU, one part of its rows after another where they are of several
    formats. Computes in float32, whatever x is of; biases: [out] float32 of each part, or none."""

    parts: tuple[PackedGroups, ...]
    biases: tuple[Tensor | None, ...]

    @property
    def num_bytes(self) -> int:
        return sum(part.data.nbytes for part in self.parts) + sum(map(_bytes, self.biases))

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        y = side_by_side(x.float(), self.parts, self.biases).to(x.dtype)
        return y if out is None else out.copy_(y)


@dataclass(frozen=True)
class GroupedLinear:
    """A weight as few bits times scales, which is unpacked on its way to the product; and what a checkpoint has beside
    it. order: [in] int64, the channel of x that each column is of; outliers: sparse [out, in], of x's dtype."""

    weight: GroupedWeights
    bias: Tensor | None = None
    order: Tensor | None = None
    outliers: Tensor | None = None
    rounds_inputs: bool = False  # products of more than ROUNDED_ROWS rows round x to 8 bits too

    @property
    def num_bytes(self) -> int:
        beside = 0 if self.outliers is None else _bytes(self.outliers.values()) * 2  # with as many indices of 32 bits
        return self.weight.nbytes + _bytes(self.bias) + _bytes(self.order) + beside

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing beside the weight but a bias."""
        return self.order is None and self.outliers is None

    def gates_for(self, x: Tensor | BegunNorm) -> bool:
        """Whether grouped_linear computes a gate with its product of x [tokens, in] and the weight."""
        return self.is_plain and gates(x, self.weight) and not self.rounds(x)

    def gated(self, x: Tensor | BegunNorm, gate: GatedActivation) -> Tensor:
        """What gate_mul makes of the product, where `gates_for` says so."""
        return grouped_linear(_contiguous(x), self.weight, self.bias, gate=gate)

    def rounds(self, x: Tensor | BegunNorm) -> bool:
        """Whether what x [tokens, any] becomes is rounded for the product."""
        return self.rounds_inputs and len(x) > ROUNDED_ROWS

    def of_gated(self, gate_up: Tensor, gate: GatedActivation) -> Tensor:
        """The product of what gate_mul makes of gate_up [tokens, 2 * in], where that is rounded for it."""
        return rounded_linear(gate_up.contiguous(), self.weight, self.bias, gate=gate)

    def turns_for(self, x: Tensor | BegunNorm) -> bool:
        """Whether grouped_rotary_write_kv turns what the product of x [tokens, in] and the weight brings."""
        return self.is_plain and turns(x, self.weight)

    def turned(self, x: Tensor | BegunNorm, place: HeadsPlace) -> None:
        """What rotary_write_kv makes of the product, which is queries, keys and values, where `turns_for` says so."""
        grouped_rotary_write_kv(_contiguous(x), self.weight, self.bias, *place)

    def ends_norm(self, stream: Tensor) -> bool:
        """Whether the product of a stream [tokens, in] can end its RMSNorm."""
        return self.is_plain and norms(stream, self.weight)

    def begins_norm(self, stream: Tensor) -> bool:
        """Whether `begin_norm` can be."""
        return self.is_plain and self.bias is None and norms(stream, self.weight)

    def begin_norm(self, stream: Tensor, x: Tensor, norm_weight: Tensor, eps: float, offset: float) -> BegunNorm:
        """Adds the product to the stream [tokens, out], and begins its RMSNorm."""
        return grouped_add_linear(x.contiguous(), self.weight, stream, norm_weight, eps, offset)

    def __call__(self, x: Tensor | BegunNorm, out: Tensor | None = None) -> Tensor:
        if isinstance(x, BegunNorm):
            return grouped_linear(x, self.weight, self.bias, out)
        if self.rounds(x):
            return rounded_linear(x.contiguous(), self.weight, self.bias, out)
        columns = x if self.order is None else x.index_select(1, self.order)
        y = grouped_linear(columns.contiguous(), self.weight, self.bias, out)
        return y if self.outliers is None else y.add_((self.outliers @ x.t()).t())


Norming = DenseLinear | GroupedLinear
"""What can begin and end norms."""


@dataclass(frozen=True)
class StackedLinear:
    """Projections of one input whose outputs stand side by side."""

    parts: tuple[Linear, ...]

    @property
    def num_bytes(self) -> int:
        return sum(part.num_bytes for part in self.parts)

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.cat([part(x) for part in self.parts], dim=-1, out=out)


def _contiguous(x: Tensor | BegunNorm) -> Tensor | BegunNorm:
    return x.contiguous() if isinstance(x, Tensor) else x


def _in_float32(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor | None) -> Tensor:
    """The product with a weight of float32, rounded once, to x's type."""
    y = linear(x.float(), weight, None if bias is None else bias.float()).to(x.dtype)
    return y if out is None else out.copy_(y)


def padded_rows(rows: int) -> int:
    """The number of rows that oneDNN is given for `rows`.

    It keeps a kernel for every number it has met, of 0.6 MB for each projection's shape, and takes milliseconds to make
    one. A few dozen numbers serve all batches."""
    step = 1 if rows <= 16 else 4 if rows <= 64 else 32 if rows <= 512 else 128
    return -(-rows // step) * step


def build_linear(weight: StoredWeight, bias: Tensor | None, device: torch.device, dtype: torch.dtype) -> Linear:
    """The projection of a stored weight [out, in] and its bias [out], computed in `dtype` on `device`. A CPU without
    products of `dtype` is faster with packed weights however many the rows, where they are stored in groups."""
    if packs(device, dtype) and not prepacks(dtype) and (groups := in_groups(weight)) is not None:
        return pack_linear(groups, bias)
    if bias is not None:
        bias = bias.to(device=device, dtype=dtype)
    if not isinstance(weight, Tensor) and unpacks(device, dtype):
        return grouped(weight, bias, device, dtype)
    stored = weight.dequantize() if isinstance(weight, GroupedMatrix) else weight
    if not isinstance(stored, Tensor):
        stored = stored.dequantize(dtype if device.type == "cpu" else torch.float32)
    placed = stored.to(device=device, dtype=dtype)
    if device.type == "cpu" and prepacks(dtype):
        return PrepackedLinear(placed, bias)
    return DenseLinear(placed, bias, streams=fits(placed), widens=device.type == "cpu" and dtype != torch.float32)


def grouped(
    weight: GroupedMatrix | Quantized, bias: Tensor | None, device: torch.device, dtype: torch.dtype
) -> GroupedLinear | StackedLinear:
    """The projection of a weight in groups as it is stored, and its bias [out], on `device`."""
    if isinstance(weight, QuantizedRows):
        biases = [None] * len(weight.parts) if bias is None else bias.split([part.shape[0] for part in weight.parts])
        parts = (grouped(*each, device, dtype) for each in zip(weight.parts, biases, strict=True))
        return StackedLinear(tuple(parts))
    packed = placed(grouped_weights(weight, device))
    if isinstance(weight, QuantizedMatrix):
        return GroupedLinear(packed, bias)
    order = None if weight.order is None else weight.order.to(device)
    outliers = None
    if weight.outliers is not None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")  # which tells a user nothing
            outliers = weight.outliers.to_sparse_csr().to(device=device, dtype=dtype)
    is_plain = order is None and outliers is None
    rounds = weight.rounds_inputs and is_plain and multiplies_rounded(packed, dtype)
    return GroupedLinear(packed, bias, order, outliers, rounds)


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight.T for x [rows, in] and a part of a weight [out, in] that differs from call to call."""
    if x.device.type == "cpu" and x.dtype == torch.bfloat16 and len(x) >= MANY_ROWS and not _multiplies_bfloat16():
        return linear(x.float(), weight.float()).to(x.dtype)
    return linear(x, weight)


def packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether weights in groups are kept as such too, for few rows. float32 computes from what they dequantise to, as
    the references of the exactness tests do."""
    return device.type == "cpu" and dtype != torch.float32


def unpacks(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether weights in groups are kept as such alone, and unpacked on their way to each product."""
    return device.type != "cpu" and dtype != torch.float32


def in_groups(weight: StoredWeight) -> Quantized | None:
    """A stored weight as pack_linear takes it; None where it is no such one."""
    if isinstance(weight, GroupedMatrix):
        return weight.in_groups_of_32()
    return None if isinstance(weight, Tensor) else weight


def pack_linear(weight: Quantized, bias: Tensor | None = None) -> PackedLinear:
    """The projection of a stored weight [out, in] and its bias [out] for few rows."""
    parts = weight.parts if isinstance(weight, QuantizedRows) else (weight,)
    packed = tuple(pack(part.values, part.scales, part.minimums, part.format, part.factors) for part in parts)
    if bias is None:
        return PackedLinear(packed, (None,) * len(packed))
    return PackedLinear(packed, tuple(each.clone() for each in bias.float().split([part.shape[0] for part in parts])))


def prepacks(dtype: torch.dtype) -> bool:
    """Whether this CPU computes with prepacked weights of a type, which it must have products of; float32 keeps torch's
    own product, which the exactness tests are about."""
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
