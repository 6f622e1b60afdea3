"""quantized_linear for the CPU."""

import torch
from torch import Tensor

from octavo_kernels.native import TYPES, loop, workers
from octavo_kernels.quantized_linear import TILE, Factors, PackedGroups
from octavo_kernels.quantized_linear.formats import Format

_quantized_linear = loop("quantized_linear", "iiiiippppiiipii")
_unpacked_rows = loop("unpacked_rows", "iiiiippipip")
_pack_groups = loop("pack_groups", "iiiiipppppiipi")
_dequantize = loop("dequantize", "iiiippppiipi")


def quantized_linear(x: Tensor, weight: PackedGroups, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """See `octavo_kernels.quantized_linear`."""
    x, columns = x.contiguous(), weight.out_features
    if out is None:
        out = x.new_empty(x.shape[0], weight.data.shape[0] * TILE)
    _quantized_linear(
        *_words(weight.format), weight.numbers, weight.data, bias, x, *x.shape, columns, out, out.stride(0), workers()
    )
    return out[:, :columns]


def unpacked_rows(weight: PackedGroups, rows: Tensor) -> Tensor:
    """See `octavo_kernels.quantized_linear`."""
    found = torch.empty(len(rows), weight.in_features)
    rows = rows.contiguous()
    _unpacked_rows(*_words(weight.format), weight.numbers, weight.data, weight.in_features, rows, len(rows), found)
    return found


def pack(
    values: Tensor, scales: Tensor, minimums: Tensor | None, form: Format, factors: Factors | None
) -> PackedGroups:
    """See `octavo_kernels.quantized_linear`."""
    rows, columns = values.shape
    kinds = 1 + form.has_minimum
    block_bytes = form.columns * TILE * form.bits // 8 + form.groups * kinds * TILE * (1 if form.is_nested else 2)
    block_bytes += kinds * TILE * 2 * form.is_nested
    data = torch.empty(-(-rows // TILE), columns // form.columns, block_bytes, dtype=torch.uint8)

    def stored(each: Tensor | None, whole: torch.dtype) -> Tensor | None:
        return None if each is None else each.to(whole if form.is_nested else torch.float16).contiguous()

    def halves(each: Tensor | None) -> Tensor | None:
        return None if each is None else each.half().contiguous()

    numbers = None if form.numbers is None else torch.tensor(form.numbers, dtype=torch.int8)
    _pack_groups(
        *_words(form), numbers, values.contiguous(), stored(scales, torch.int8), stored(minimums, torch.uint8),
        torch.stack([each for each in (halves(factors.scales), halves(factors.minimums)) if each is not None])
        if factors is not None
        else None,
        rows, columns, data, workers(),
    )  # fmt: skip
    return PackedGroups(data, form, rows, numbers)


def dequantized(values: Tensor, scales: Tensor, minimums: Tensor | None, form: Format, dtype: torch.dtype) -> Tensor:
    """See `octavo_kernels.quantized_linear`."""
    found = torch.empty(values.shape, dtype=dtype)
    numbers = None if form.numbers is None else torch.tensor(form.numbers, dtype=torch.int8)
    _dequantize(
        TYPES[dtype], form.bits, form.group, form.offset, numbers, values.contiguous(), scales.contiguous(),
        None if minimums is None else minimums.contiguous(), *values.shape, found, workers(),
    )  # fmt: skip
    return found


def _words(form: Format) -> tuple[int, ...]:
    return form.bits, form.group, form.is_nested, form.has_minimum, form.offset
