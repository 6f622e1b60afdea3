"""The cases that every form of int8_linear is checked on."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from octavo_kernels.comparison import largest_error
from octavo_kernels.gate_mul import GatedActivation
from octavo_kernels.int8_linear import reference

# Sums of integers are exact. Between two numbers of 8 bits a GPU may round to the other one than the oracle.
TOLERANCES = {torch.float32: 2e-3, torch.float16: 4e-3, torch.bfloat16: 1e-2}


@dataclass(frozen=True)
class Case:
    """spread: of the rows' sizes, as powers of two. gate: of what x is made of, twice as wide."""

    name: str
    rows: int
    width: int
    columns: int
    bias: bool = False
    spread: int = 0
    gate: GatedActivation | None = None


TINY_CASES = (
    Case("one row", 1, 64, 40),
    Case("ragged, a bias", 37, 208, 72, bias=True),
    Case("rows of several sizes", 5, 96, 33, spread=12),
    Case("several tiles", 130, 160, 140, bias=True),
    Case("gated", 6, 80, 40, gate="silu"),
)
CASES = (
    *TINY_CASES,
    Case("smollm2, down", 100, 1536, 576),
    Case("8B shape, output", 65, 4096, 4096, bias=True),
    Case("8B shape, query, key and value", 2048, 4096, 6144),
    Case("down of 8B, rows of several sizes", 300, 14336, 4096, spread=8),
    Case("8B shape, down, gated", 70, 14336, 4096, gate="silu"),
    Case("70B shape, down, gated", 3, 28672, 64, bias=True, gate="gelu_tanh"),
    Case("head of 80", 200, 1280, 2560),
    Case("no row", 0, 64, 32),
)


def error(form: Callable[..., Tensor], case: Case, dtype: torch.dtype, device: str) -> float:
    """Largest error of `form` against the oracle. A row of zeros is among the rows where there are several."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(case.rows, case.width if case.gate is None else 2 * case.width, generator=generator)
    if case.spread:
        x *= torch.exp2(torch.randint(-case.spread, 1, (case.rows, 1), generator=generator).float())
    x[1:2] = 0
    values = torch.randint(-128, 128, (case.columns, case.width), generator=generator, dtype=torch.int8).to(device)
    scales = (torch.rand(case.columns, generator=generator) + 0.5) / 74 * case.width**-0.5
    bias = torch.randn(case.columns, generator=generator).to(device, dtype) if case.bias else None
    out = torch.full((case.rows, case.columns), torch.nan, dtype=dtype, device=device)
    operands = x.to(device, dtype), values, scales.to(device, torch.float16), bias
    form(*operands, out, case.gate)
    return largest_error(out, reference.int8_linear(*operands, gate=case.gate))
