"""grouped_linear for the CPU: a tile's weights are unpacked on their way from memory, for one or two rows of x.

x is multiplied in 16-bit integers that share a scale by groups too, so that a CPU's instruction for sums of products of
such integers does the work: float32 would take three times as many, and the weights would wait for it. What is lost is
1.5e-5 of a group's greatest number, a hundredth of what bfloat16 loses."""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from octavo_kernels.compiled import compiled, workers
from octavo_kernels.grouped_linear import GROUP, TILE, PackedGroups
from octavo_kernels.vectors import (
    CACHE_LINE,
    LANES,
    add,
    add_dot,
    broadcast,
    broadcast_pair,
    greatest_lane,
    load,
    load_byte_pairs,
    load_halves,
    load_nibble_pairs,
    magnitude,
    maximum,
    multiply,
    multiply_add,
    prefetch,
    store,
    store_rounded,
    sum_lanes,
    to_floats,
    zero_integers,
    zeros,
)

_Array = npt.NDArray[Any]

_PAIR_4 = TILE  # bytes of a tile's values of two columns
_PAIR_8 = TILE * 2
_FACTORS = TILE * 2  # bytes of a tile's scales, or minimums
_HALF = LANES * 2  # bytes of half of them
_PAIRS_4, _PAIRS_8 = GROUP // 2 * _PAIR_4, GROUP // 2 * _PAIR_8  # bytes of all values of a tile's group
_BLOCK_4, _BLOCK_8 = _PAIRS_4 + 2 * _FACTORS, _PAIRS_8 + _FACTORS  # bytes of a tile's group
_LARGEST = 32767
_AHEAD = 4096  # bytes: CPUs foresee what is read next within a page of memory, and no further


def grouped_linear(x: Tensor, weight: PackedGroups) -> Tensor:
    """See `octavo_kernels.grouped_linear`."""
    out = torch.empty(x.shape[0], weight.data.shape[0] * TILE)
    project(weight.bits, weight.data.data_ptr(), x.contiguous().numpy(), out.numpy(), workers())
    return out[:, : weight.out_features]


@compiled()
def project(bits: int, address: int, x: _Array, out: _Array, workers: int) -> None:
    """`out` [rows, tiles * TILE]: the product of x [rows, in] with the weight at an address, by so many threads."""
    groups = (x.shape[0], x.shape[1] // GROUP)
    numbers, scales, sums = np.empty(x.shape, np.int16), np.empty(groups, np.float32), np.empty(groups, np.float32)
    _quantize(x, numbers, scales, sums)
    _project_together(bits, address, numbers, scales, sums, out, workers)


@compiled()
def _quantize(x: _Array, numbers: _Array, scales: _Array, sums: _Array) -> None:
    """x [rows, in] as numbers [rows, in] int16 times the scales [rows, in / 32] of their groups; and the groups' sums
    [rows, in / 32], which their minimums are multiplied by."""
    for row in range(x.shape[0]):
        for group in range(scales.shape[1]):
            start = group * GROUP
            first, second = load(x[row], start), load(x[row], start + LANES)
            total = sum_lanes(add(first, second))
            greatest = greatest_lane(maximum(magnitude(first), magnitude(second)))
            per_unit = np.float32(_LARGEST) / greatest if greatest > 0 else np.float32(0)
            store_rounded(numbers[row], start, multiply(first, broadcast(per_unit)))
            store_rounded(numbers[row], start + LANES, multiply(second, broadcast(per_unit)))
            scales[row, group], sums[row, group] = greatest / np.float32(_LARGEST), total


@compiled(parallel=True)
def _project_together(
    bits: int, address: int, numbers: _Array, scales: _Array, sums: _Array, out: _Array, workers: int
) -> None:
    tiles = out.shape[1] // TILE
    for worker in numba.prange(workers):
        first, end = np.int64(worker) * tiles // workers, np.int64(worker + 1) * tiles // workers
        _project_share(bits, address, numbers, scales, sums, out, first, end)


@compiled()
def _project_share(
    bits: int, address: int, numbers: _Array, scales: _Array, sums: _Array, out: _Array, first: int, end: int
) -> None:
    rows = len(numbers)
    paired = rows - rows % 2
    for tile in range(first, end):
        for row in range(0, paired, 2):
            _project_two(bits, address, numbers, scales, sums, row, out, tile)
        if paired < rows:
            _project_one(bits, address, numbers, scales, sums, paired, out, tile)


@compiled()
def _fetch(start: int, size: int) -> None:
    for address in range(start, start + size, CACHE_LINE):
        prefetch(address)


@compiled()
def _values(bits: int, at: int, pair: int) -> tuple[Any, Any]:
    """A group's values of two columns: of the tile's first LANES rows, and of the others."""
    if bits == 4:
        values: tuple[Any, Any] = load_nibble_pairs(at + pair * _PAIR_4)
        return values
    return load_byte_pairs(at + pair * _PAIR_8), load_byte_pairs(at + pair * _PAIR_8 + TILE)


@compiled()
def _scaled(dots: Any, scales: int, unit: Any, total: Any) -> Any:
    """total + dots * the scales at an address * unit."""
    return multiply_add(multiply(load_halves(scales), unit), to_floats(dots), total)


@compiled()
def _project_one(
    bits: int, address: int, all_numbers: _Array, units: _Array, sums: _Array, row: int, out: _Array, tile: int
) -> None:
    numbers, groups = all_numbers[row], units.shape[1]
    pairs_size, block = (_PAIRS_4, _BLOCK_4) if bits == 4 else (_PAIRS_8, _BLOCK_8)
    low_total, high_total = zeros(), zeros()
    for group in range(groups):
        at = address + (tile * groups + group) * block
        _fetch(at + _AHEAD, block)
        low, high = zero_integers(), zero_integers()
        for pair in range(GROUP // 2):
            low_values, high_values = _values(bits, at, pair)
            elements = broadcast_pair(numbers, group * GROUP + 2 * pair)
            low, high = add_dot(elements, low_values, low), add_dot(elements, high_values, high)
        scales = at + pairs_size
        unit = broadcast(units[row, group])
        low_total = _scaled(low, scales, unit, low_total)
        high_total = _scaled(high, scales + _HALF, unit, high_total)
        if bits == 4:
            minimums, total = scales + _FACTORS, broadcast(sums[row, group])
            low_total = multiply_add(load_halves(minimums), total, low_total)
            high_total = multiply_add(load_halves(minimums + _HALF), total, high_total)
    store(out[row], tile * TILE, low_total)
    store(out[row], tile * TILE + LANES, high_total)


@compiled()
def _project_two(
    bits: int, address: int, all_numbers: _Array, units: _Array, sums: _Array, row: int, out: _Array, tile: int
) -> None:
    numbers, next_numbers, groups = all_numbers[row], all_numbers[row + 1], units.shape[1]
    pairs_size, block = (_PAIRS_4, _BLOCK_4) if bits == 4 else (_PAIRS_8, _BLOCK_8)
    low_total, high_total, next_low_total, next_high_total = zeros(), zeros(), zeros(), zeros()
    for group in range(groups):
        at = address + (tile * groups + group) * block
        _fetch(at + _AHEAD, block)
        low, high, next_low, next_high = zero_integers(), zero_integers(), zero_integers(), zero_integers()
        for pair in range(GROUP // 2):
            low_values, high_values = _values(bits, at, pair)
            elements = broadcast_pair(numbers, group * GROUP + 2 * pair)
            low, high = add_dot(elements, low_values, low), add_dot(elements, high_values, high)
            elements = broadcast_pair(next_numbers, group * GROUP + 2 * pair)
            next_low, next_high = add_dot(elements, low_values, next_low), add_dot(elements, high_values, next_high)
        scales = at + pairs_size
        unit, next_unit = broadcast(units[row, group]), broadcast(units[row + 1, group])
        low_total = _scaled(low, scales, unit, low_total)
        high_total = _scaled(high, scales + _HALF, unit, high_total)
        next_low_total = _scaled(next_low, scales, next_unit, next_low_total)
        next_high_total = _scaled(next_high, scales + _HALF, next_unit, next_high_total)
        if bits == 4:
            minimums = scales + _FACTORS
            low_minimum, high_minimum = load_halves(minimums), load_halves(minimums + _HALF)
            total, next_total = broadcast(sums[row, group]), broadcast(sums[row + 1, group])
            low_total = multiply_add(low_minimum, total, low_total)
            high_total = multiply_add(high_minimum, total, high_total)
            next_low_total = multiply_add(low_minimum, next_total, next_low_total)
            next_high_total = multiply_add(high_minimum, next_total, next_high_total)
    store(out[row], tile * TILE, low_total)
    store(out[row], tile * TILE + LANES, high_total)
    store(out[row + 1], tile * TILE, next_low_total)
    store(out[row + 1], tile * TILE + LANES, next_high_total)
