"""The oracle of grouped_linear: the weight, unpacked, in float32."""

import torch
from torch import Tensor

from octavo_kernels.begun_norm import BegunNorm, rows_of
from octavo_kernels.eight_bits import round_rows
from octavo_kernels.gate_mul import GatedActivation
from octavo_kernels.gate_mul.reference import gate_mul
from octavo_kernels.grouped_linear import GroupedWeights
from octavo_kernels.grouped_linear.interleaving import lower_of, natural, upper_of
from octavo_kernels.quantized_linear.formats import SUPER
from octavo_kernels.rotary_write_kv.reference import rotary_write_kv
from octavo_kernels.skinny_linear.reference import ended, skinny_add_linear


def grouped_linear(
    x: Tensor | BegunNorm,
    weight: GroupedWeights,
    bias: Tensor | None = None,
    out: Tensor | None = None,
    gate: GatedActivation | None = None,
) -> Tensor:
    """See `octavo_kernels.grouped_linear`."""
    product = ended(x).float() @ dequantize(weight).T
    if bias is not None:
        product += bias.float()
    product = product if gate is None else gate_mul(product, gate)
    return product.to(rows_of(x).dtype) if out is None else out.copy_(product)


def grouped_add_linear(
    x: Tensor, weight: GroupedWeights, stream: Tensor, norm_weight: Tensor, eps: float, offset: float = 0.0
) -> BegunNorm:
    """See `octavo_kernels.grouped_linear`."""
    return skinny_add_linear(x, dequantize(weight), stream, norm_weight, eps, offset)


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
    """See `octavo_kernels.grouped_linear`: one after the other."""
    heads = q.shape[1], k_cache.shape[2], k_cache.shape[2]
    queries, k, v = grouped_linear(x, weight, bias).view(len(x), -1, q.shape[2]).split(heads, dim=1)
    rotary_write_kv(queries, k, v, positions, cos_sin, k_cache, v_cache, slots)
    q.copy_(queries)


def dequantize(weight: GroupedWeights) -> Tensor:
    """[out, in] float32."""
    weight = natural(weight)
    rows, columns = weight.shape
    high, wide = weight.group
    values = weight.values
    if weight.bits < 8:
        values = lower_of(values)
    if weight.upper is not None:
        values = values | upper_of(weight.upper, weight.bits - 4) << 4
    if weight.codebook is None:
        numbers = values.float() - weight.offset
    else:
        numbers = weight.codebook.float().expand(rows, 16).gather(1, values.long())

    def of_numbers(each: Tensor) -> Tensor:
        return each.repeat_interleave(wide, dim=1)[:, :columns]

    if weight.zeros is not None:
        numbers -= of_numbers(weight.zeros.float())
    scales = weight.scales.float().repeat_interleave(high, dim=0)[:rows]
    minimums = None if weight.minimums is None else weight.minimums.float()
    if weight.factors is not None:
        factors = weight.factors.float().repeat_interleave(SUPER // wide, dim=2)
        scales = scales * factors[:, 0]
        minimums = None if minimums is None else minimums * factors[:, 1]
    numbers = numbers * of_numbers(scales)
    return numbers if minimums is None else numbers + of_numbers(minimums)


def rounded_rows(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x [rows, width] rounded to FP8 (e4m3) or int8, in float32: see `eight_bits.round_rows`."""
    stored, scales = round_rows(x, dtype)
    return stored.float() * scales
