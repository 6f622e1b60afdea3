"""grouped_linear with both operands in FP8 (e4m3), by cuBLAS: each row of x is rounded with a scale of its own."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.dependent_launch import launch_options, wait_for_last
from octavo_kernels.eight_bits_kernels import to_fp8
from octavo_kernels.grouped_linear import GroupedWeights


@triton.jit
def round_rows_kernel(out, scales, x, WIDTH: tl.constexpr, BLOCK: tl.constexpr, DEPENDENT: tl.constexpr):
    """out: [rows, WIDTH] uint8; scales: [rows] float32, what the largest number of a row is over FP8's largest; x:
    [rows, WIDTH]. Grid: (rows,)."""
    wait_for_last(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < WIDTH
    numbers = tl.load(x + row * WIDTH + column, mask=inside, other=0.0).to(tl.float32)
    scale = tl.maximum(tl.max(tl.abs(numbers), axis=0) / 448.0, 1e-12)
    tl.store(scales + row, scale)
    tl.store(out + row * WIDTH + column, to_fp8(numbers / scale), mask=inside)


def round_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Of x [rows, width], contiguous: float8_e4m3fn [rows, width], and the rows' scales, float32 [rows, 1]."""
    rows, width = x.shape
    stored = torch.empty(rows, width, dtype=torch.float8_e4m3fn, device=x.device)
    scales = torch.empty(rows, 1, dtype=torch.float32, device=x.device)
    block = triton.next_power_of_2(width)
    round_rows_kernel[(rows,)](
        stored.view(torch.uint8),
        scales,
        x,
        WIDTH=width,
        BLOCK=block,
        num_warps=min(16, max(1, block // 512)),
        **launch_options(x.device),
    )
    return stored, scales


def grouped_linear(x: Tensor, weight: GroupedWeights, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """See `octavo_kernels.grouped_linear.fp8_linear`."""
    stored, scales = round_rows(x)
    product: Tensor = torch._scaled_mm(
        stored,
        weight.values.t(),
        scale_a=scales,
        scale_b=weight.scales.t(),
        bias=bias,
        out_dtype=x.dtype,
        use_fast_accum=True,
    )
    return product if out is None else out.copy_(product)
