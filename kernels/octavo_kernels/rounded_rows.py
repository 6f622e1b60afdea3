"""Rows rounded to 8 bits, each with a scale of its own, in Triton."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.dependent_launch import launch_options, wait_for_last
from octavo_kernels.eight_bits import LARGEST
from octavo_kernels.eight_bits_kernels import FP8, as_bytes, narrowed


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
    inside = column < WIDTH
    numbers = tl.load(x + row * WIDTH + column, mask=inside, other=0.0).to(tl.float32)
    # Rounded as the oracle does, so that numbers halfway between two go to the same one.
    scale = tl.maximum(tl.div_rn(tl.max(tl.abs(numbers), axis=0), MOST), 1e-12)
    tl.store(scales + row, scale)
    tl.store(out + row * WIDTH + column, narrowed(numbers, scale, KIND), mask=inside)


def round_rows(x: Tensor, kind: int) -> tuple[Tensor, Tensor]:
    """Of x [rows, width], contiguous: float8_e4m3fn or int8 [rows, width], and the rows' scales, float32 [rows, 1].
    kind: FP8 or INT8 of eight_bits_kernels."""
    rows, width = x.shape
    stored = torch.empty(rows, width, dtype=torch.float8_e4m3fn if kind == FP8 else torch.int8, device=x.device)
    scales = torch.empty(rows, 1, dtype=torch.float32, device=x.device)
    block = triton.next_power_of_2(width)
    round_rows_kernel[(rows,)](
        as_bytes(stored),
        scales,
        x,
        WIDTH=width,
        KIND=kind,
        MOST=LARGEST[stored.dtype],
        BLOCK=block,
        num_warps=min(16, max(1, block // 512)),
        **launch_options(x.device),
    )
    return stored, scales
