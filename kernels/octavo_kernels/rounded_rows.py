"""Rows rounded to 8 bits, each with a scale of its own, in Triton: those that are there, and what gate_mul makes."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.dependent_launch import launch_options, wait_for_last
from octavo_kernels.eight_bits import LARGEST
from octavo_kernels.eight_bits_kernels import FP8, as_bytes, narrowed
from octavo_kernels.gate_mul import GatedActivation
from octavo_kernels.gate_mul.triton import gate_mul, gated

MOST_WARPS = 16
# Of a thread, so that two rows of up to so many columns are on a processor: one is read while the other is computed.
REGISTERS, MOST_COLUMNS = 64, 16384
_FP8 = tl.constexpr(FP8)


class RoundedRows(NamedTuple):
    """Rows of numbers in 8 bits."""

    stored: Tensor  # [rows, width] float8_e4m3fn or int8
    scales: Tensor  # [rows, 1] float32


@triton.jit
def _store_rounded(out, scales, numbers, row, column, WIDTH, KIND: tl.constexpr, MOST: tl.constexpr, NATIVE):
    """Rounds a row's numbers of any float, 0 beyond its WIDTH. NATIVE: to FP8 by an instruction, which GPUs have from
    Ada on and Triton's interpreter lacks. The others: of `round_rows_kernel`."""
    # Rounded as the oracle does, so that numbers halfway between two go to the same one.
    scale = tl.maximum(tl.div_rn(tl.max(tl.abs(numbers.to(tl.float32)), axis=0), MOST), 1e-12)
    tl.store(scales + row, scale)
    if NATIVE and KIND == _FP8:
        # As division rounds, in three instructions (Markstein 1990).
        inverse = tl.div_rn(1.0, scale)
        quotient = numbers.to(tl.float32) * inverse
        quotient = tl.fma(tl.fma(-quotient, scale, numbers.to(tl.float32)), inverse, quotient)
        stored = quotient.to(tl.float8e4nv).to(tl.uint8, bitcast=True)
    else:
        stored = narrowed(numbers, scale, KIND)
    tl.store(out + row * WIDTH + column, stored, mask=column < WIDTH)


@triton.jit
def round_rows_kernel(
    out, scales, x, WIDTH: tl.constexpr, KIND: tl.constexpr, MOST: tl.constexpr, BLOCK: tl.constexpr,
    DEPENDENT: tl.constexpr,
):  # fmt: skip
    """out: [rows, WIDTH] of 8 bits, FP8's as uint8; scales: [rows] float32, what the largest number of a row is over
    MOST, the largest in 8 bits; x: [rows, WIDTH]. KIND: of eight_bits_kernels. Grid: (rows,)."""
    wait_for_last(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    numbers = tl.load(x + row * WIDTH + column, mask=column < WIDTH, other=0.0)
    _store_rounded(out, scales, numbers, row, column, WIDTH, KIND, MOST, DEPENDENT)


@triton.jit
def gate_round_kernel(
    out, scales, gate_up, ACTIVATION: tl.constexpr, WIDTH: tl.constexpr, KIND: tl.constexpr, MOST: tl.constexpr,
    BLOCK: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """Of ACTIVATION(gate) * up, rounded to its type, what `round_rows_kernel` makes. gate_up: [rows, 2 * WIDTH], the
    gates first. Grid: (rows,)."""
    wait_for_last(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    gates = gate_up + row * (2 * WIDTH) + column
    gate = tl.load(gates, mask=column < WIDTH, other=0.0).to(tl.float32)
    up = tl.load(gates + WIDTH, mask=column < WIDTH, other=0.0).to(tl.float32)
    numbers = gated(gate, up, ACTIVATION).to(gate_up.dtype.element_ty)
    _store_rounded(out, scales, numbers, row, column, WIDTH, KIND, MOST, DEPENDENT)


def round_rows(x: Tensor, kind: int) -> RoundedRows:
    """Of x [rows, width], contiguous. kind: FP8 or INT8 of eight_bits_kernels."""
    rows, width = x.shape
    rounded = _empty(rows, width, kind, x.device)
    round_rows_kernel[(rows,)](as_bytes(rounded.stored), rounded.scales, x, **_options(rounded, kind))
    return rounded


def gate_round(gate_up: Tensor, activation: GatedActivation, kind: int) -> RoundedRows:
    """What round_rows makes of gate_mul's [rows, width]. gate_up: [rows, 2 * width], contiguous."""
    rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    if width > MOST_COLUMNS:
        return round_rows(gate_mul(gate_up, activation), kind)
    rounded = _empty(rows, width, kind, gate_up.device)
    gate_round_kernel[(rows,)](
        as_bytes(rounded.stored), rounded.scales, gate_up, ACTIVATION=activation, **_options(rounded, kind)
    )
    return rounded


def _empty(rows: int, width: int, kind: int, device: torch.device) -> RoundedRows:
    stored = torch.empty(rows, width, dtype=torch.float8_e4m3fn if kind == FP8 else torch.int8, device=device)
    return RoundedRows(stored, torch.empty(rows, 1, dtype=torch.float32, device=device))


def _options(rounded: RoundedRows, kind: int) -> dict[str, object]:
    width, block = rounded.stored.shape[1], triton.next_power_of_2(rounded.stored.shape[1])
    warps = min(MOST_WARPS, max(1, block // 512))
    sizes = {"WIDTH": width, "KIND": kind, "MOST": LARGEST[rounded.stored.dtype], "BLOCK": block, "num_warps": warps}
    registers = {"maxnreg": REGISTERS} if block <= MOST_COLUMNS else {}
    return sizes | registers | launch_options(rounded.stored.device)
