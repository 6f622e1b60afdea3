"""A projection by weights of few bits times the scales of their groups, unpacked on their way to the product.

What the formats of quantised checkpoints and of GGUF files come down to: integers of 4 to 6 and of 8 bits, FP8, and 4
bits that a codebook explains."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from octavo_kernels.begun_norm import BegunNorm, rows_of
from octavo_kernels.gate_mul import GatedActivation
from octavo_kernels.gpu import capability
from octavo_kernels.int8_linear import int8_linear, multiplies_int8

MOST_ROWS = 64  # of one kernel of the forms for Hopper


@dataclass(frozen=True)
class GroupedWeights:
    """A weight [out, in]: (value - offset - zero) * scale + minimum; where there is a codebook, codebook[value] in the
    value's place. All contiguous.

    values: of 8 bits [out, in], int8 or float8_e4m3fn; of 4 bits [out, in / 2] uint8, where a byte holds two
    neighbours, the first in its low half; so too the lower 4 of 5 and 6 bits. scales: [groups of rows, groups of
    columns], any float, or nested: int8. group: the rows and columns of one. zeros: [out, groups of columns], whole
    numbers in any float. codebook: [16] or [out, 16], any float. minimums: [out, groups of columns], any float, or
    nested: uint8. factors: what nested scales, and then nested minimums, are multiplied by: [out, 1 or 2, in / SUPER],
    any float. upper: [out, in * (bits - 4) / 8] uint8, the bits above the lower 4, the first number's lowest. Of groups
    of one row are those with zeros, minimums or nested scales. interleaved: the numbers of a row lie in the order of
    `interleaving`; values and upper are of the same shape all the same."""

    values: Tensor
    scales: Tensor
    group: tuple[int, int]
    zeros: Tensor | None = None
    codebook: Tensor | None = None
    minimums: Tensor | None = None
    factors: Tensor | None = None
    upper: Tensor | None = None
    offset: int = 0
    interleaved: bool = False

    @property
    def bits(self) -> int:
        if self.values.dtype != torch.uint8:
            return 8
        return 4 if self.upper is None else 4 + 4 * self.upper.shape[1] // self.values.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        rows, width = self.values.shape
        return rows, width if self.bits == 8 else 2 * width

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in vars(self).values() if isinstance(part, Tensor))

    def to(self, device: str | torch.device) -> "GroupedWeights":
        """The same weight there."""
        parts: dict[str, Any] = {name: part.to(device) for name, part in vars(self).items() if isinstance(part, Tensor)}
        return replace(self, **parts)

    def rows(self, first: int, count: int) -> "GroupedWeights":
        """So many rows of a weight that is not interleaved, which share its memory: `first` is the first of a group."""
        end, high = first + count, self.group[0]
        of_rows = "values", "zeros", "minimums", "factors", "upper"
        parts: dict[str, Any] = {name: part[first:end] for name in of_rows if (part := getattr(self, name)) is not None}
        if self.codebook is not None and self.codebook.dim() == 2:
            parts["codebook"] = self.codebook[first:end]
        return replace(self, scales=self.scales[first // high : -(-end // high)], **parts)


def placed(weight: GroupedWeights) -> GroupedWeights:
    """The weight in the order in which its device multiplies few rows by it fastest, in as much memory."""
    if weight.values.device.type != "cuda" or capability(weight.values.device) != (9, 0):
        return weight
    from octavo_kernels.grouped_linear import hopper, interleaved
    from octavo_kernels.grouped_linear.interleaving import interleave

    return interleave(weight) if interleaved.takes(weight) and not hopper.takes(weight) else weight


def gates(x: Tensor | BegunNorm, weight: GroupedWeights) -> bool:
    """Whether grouped_linear computes a gate with its product of x [rows, in]."""
    if weight.interleaved:
        return isinstance(x, Tensor) and 0 < len(x) <= MOST_ROWS
    return turns(x, weight) or (isinstance(x, Tensor) and _is_for_many_rows(x, weight, gated=True))


def grouped_linear(
    x: Tensor | BegunNorm,
    weight: GroupedWeights,
    bias: Tensor | None = None,
    out: Tensor | None = None,
    gate: GatedActivation | None = None,
) -> Tensor:
    """x @ weight.T + bias, summed in float32; the same inputs bring the same bits, and nothing waits for the device.

    Args:
        x: [rows, in], contiguous, or its norm, begun, where `norms` says so.
        weight: [out, in], `placed` or not; with a gate [2 * out, in].
        bias: a number for each of the weight's rows, of x's dtype.
        out: [rows, out], contiguous, where to write; allocated if None.
        gate: what gate_mul makes of the product is computed with it, and not rounded in between, where `gates` says so.

    Returns:
        [rows, out], in x's dtype.
    """
    if isinstance(x, BegunNorm):
        from octavo_kernels.grouped_linear import one_row

        return one_row.grouped_linear(x, weight, bias, out, gate)
    if x.device.type == "cuda":
        from octavo_kernels.grouped_linear import hopper, interleaved, many_rows, one_row, triton

        if _is_for_many_rows(x, weight, gate is not None):
            return many_rows.grouped_linear(x, weight, bias, out, gate)
        if interleaved.fits(x, weight):
            return interleaved.grouped_linear(x, weight, bias, out, gate)
        if capability(x.device) == (9, 0):
            if one_row.fits(x, weight):
                return one_row.grouped_linear(x, weight, bias, out, gate)
            if hopper.fits(x, weight):
                return hopper.grouped_linear(x, weight, bias, out)
        return triton.grouped_linear(x, weight, bias, out)
    from octavo_kernels.grouped_linear import cpu

    return cpu.grouped_linear(x, weight, bias, out)


def _is_for_many_rows(x: Tensor, weight: GroupedWeights, gated: bool) -> bool:
    if len(x) <= MOST_ROWS or x.device.type != "cuda" or capability(x.device) != (9, 0):
        return False
    from octavo_kernels.grouped_linear import many_rows

    return many_rows.fits(x, weight, gated)


def norms(stream: Tensor, weight: GroupedWeights) -> bool:
    """Whether the products of as many rows as a residual stream [rows, hidden] has, and of its type, by the weight can
    end and begin its RMSNorm: in bfloat16; what is not divided by its root mean square may be too large for float16."""
    return stream.dtype == torch.bfloat16 and turns(stream, weight)


def grouped_add_linear(
    x: Tensor, weight: GroupedWeights, stream: Tensor, norm_weight: Tensor, eps: float, offset: float = 0.0
) -> BegunNorm:
    """Adds x @ weight.T to the residual stream, and begins its rms_norm, which is of the rounded sum, where `norms`
    says so.

    Args:
        x: see grouped_linear.
        weight: [out, in].
        stream: [rows, out], contiguous, of x's dtype; overwritten.
        norm_weight: [out].
        eps: added to the mean square.
        offset: added to norm_weight where it multiplies.
    """
    from octavo_kernels.grouped_linear import one_row

    return one_row.grouped_add_linear(x, weight, stream, norm_weight, eps, offset)


def turns(x: Tensor | BegunNorm, weight: GroupedWeights) -> bool:
    """Whether grouped_rotary_write_kv computes x [rows, in] by the weight."""
    device = rows_of(x).device
    if device.type != "cuda" or capability(device) != (9, 0):
        return False
    from octavo_kernels.grouped_linear import one_row

    return one_row.fits(x, weight)


def grouped_rotary_write_kv(
    x: Tensor | BegunNorm,
    weight: GroupedWeights,
    bias: Tensor | None,
    q: Tensor,
    positions: Tensor,
    cos_sin: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    slots: Tensor,
) -> None:
    """What rotary_write_kv makes of the queries, keys and values that grouped_linear brings, in one kernel, where
    `turns` says so.

    Args:
        x, bias: see grouped_linear.
        weight: [(heads + 2 * kv_heads) * head_dim, in].
        q, positions, cos_sin, slots: see `octavo_kernels.skinny_linear.skinny_rotary_write_kv`.
        k_cache, v_cache: likewise, of x's dtype.
    """
    from octavo_kernels.grouped_linear import one_row

    one_row.grouped_rotary_write_kv(x, weight, bias, q, positions, cos_sin, k_cache, v_cache, slots)


def rounded_linear(
    x: Tensor,
    weight: GroupedWeights,
    bias: Tensor | None = None,
    out: Tensor | None = None,
    gate: GatedActivation | None = None,
) -> Tensor:
    """grouped_linear of x rounded to the weight's 8 bits, FP8 (e4m3) or int8, each row with a scale of its own, where
    `multiplies_rounded` says so: for many rows GPUs multiply twice as many such numbers as of 16 bits. gate: x is
    [rows, 2 * in], and what gate_mul makes of it is multiplied."""
    if weight.values.dtype == torch.int8:
        return int8_linear(x, weight.values, weight.scales.flatten(), bias, out, gate)
    from octavo_kernels.grouped_linear import fp8_inputs

    return fp8_inputs.grouped_linear(x, weight, bias, out, gate)


def multiplies_rounded(weight: GroupedWeights, dtype: torch.dtype) -> bool:
    """Whether there is a product of 8 bits by 8 bits for a weight on its device, with a scale for each row: of int8,
    and from Ada on of FP8 with results in bfloat16."""
    values, width = weight.values, weight.shape[1]
    if values.device.type != "cuda" or weight.group != (1, width) or weight.zeros is not None:
        return False
    if values.dtype == torch.int8:
        return multiplies_int8(values, dtype)
    is_fp8 = values.dtype == torch.float8_e4m3fn and capability(values.device) >= (8, 9)
    return is_fp8 and dtype == torch.bfloat16 and width % 16 == 0 and len(values) % 16 == 0


def pack_halves(values: Tensor) -> Tensor:
    """[rows, columns / 2] uint8 of [rows, columns] uint8 from 0 to 15, as GroupedWeights holds them."""
    return values[:, ::2] | values[:, 1::2] << 4


def pack_upper(values: Tensor, bits: int) -> Tensor:
    """What the numbers [rows, columns] uint8 of 5 or 6 bits have above the lower 4, as GroupedWeights holds it."""
    together = 8 // (bits - 4)
    places = torch.arange(together, device=values.device, dtype=torch.uint8) * (bits - 4)
    packed: Tensor = ((values >> 4).unflatten(1, (-1, together)) << places).sum(-1, dtype=torch.uint8)
    return packed
