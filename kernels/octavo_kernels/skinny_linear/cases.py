"""The shapes that skinny_linear is checked on, and what may be lost."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from octavo_kernels.gate_mul import GatedActivation
from octavo_kernels.skinny_linear.reference import skinny_linear


@dataclass(frozen=True)
class Case:
    name: str
    rows: int
    width: int
    columns: int
    bias: bool = False
    gate: GatedActivation | None = None

    def __str__(self) -> str:
        return self.name


CASES = (
    Case("8B shape, output, one row", 1, 4096, 4096),
    Case("8B shape, output, 16 rows", 16, 4096, 4096),
    Case("8B shape, output, 32 rows", 32, 4096, 4096),
    Case("8B shape, output, 64 rows", 64, 4096, 4096),
    Case("8B shape, down, 8 rows", 8, 14336, 4096),
    Case("8B shape, down, 32 rows", 32, 14336, 4096),
    Case("8B shape, down, 64 rows", 64, 14336, 4096),
    Case("8B shape, query, key and value, 5 rows", 5, 4096, 6144),
    Case("8B shape, query, key and value, 32 rows", 32, 4096, 6144),
    Case("8B shape, query, key and value, 64 rows", 64, 4096, 6144),
    Case("8B shape, gate and up, 3 rows", 3, 4096, 28672),
    Case("8B shape, gate and up, 24 rows", 24, 4096, 28672),
    Case("8B shape, gate and up, 64 rows", 64, 4096, 28672),
    Case("8B shape, head, one row", 1, 512, 128_256),
    Case("8B shape, head, 13 rows", 13, 512, 128_256),
    Case("8B shape, head, 33 rows", 33, 512, 128_256),
    Case("smollm2, down", 2, 1536, 576),
    Case("a bias", 7, 3584, 4608, bias=True),
    Case("a bias behind split sums", 40, 8960, 1536, bias=True),
    Case("one column", 4, 512, 1),
    Case("odd columns", 9, 2048, 4093),
    Case("less than a tile", 2, 40, 24),
    Case("a width that splits unevenly", 6, 136, 72),
    Case("8B shape, gated, one row", 1, 4096, 14336, gate="silu"),
    Case("8B shape, gated, 12 rows", 12, 4096, 14336, gate="silu"),
    Case("8B shape, gated, 32 rows", 32, 4096, 14336, gate="silu"),
    Case("8B shape, gated, 64 rows", 64, 4096, 14336, gate="silu"),
    Case("Gemma 2 shape, gated", 3, 2304, 9216, gate="gelu_tanh"),
    Case("ModernBERT shape, gated", 30, 768, 1152, gate="gelu"),
    Case("odd columns, gated, a bias", 9, 2048, 1027, bias=True, gate="silu"),
)
TOLERANCES = {torch.bfloat16: 2**-8, torch.float16: 2**-11}  # of the result, beside what sums of float32 lose
_SUMS = 2**-16  # of the sum of the products' magnitudes


def operands(case: Case, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, Tensor | None]:
    """x, weight and bias."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(*shape, generator=generator) * scale).to(device, dtype)

    columns = case.columns if case.gate is None else 2 * case.columns
    x, weight = random(case.rows, case.width), random(columns, case.width, scale=case.width**-0.5)
    return x, weight, random(columns) if case.bias else None


def error(form: Callable[..., Tensor], case: Case, dtype: torch.dtype, device: str) -> float:
    """Largest error of `form` against the oracle, as a share of the result, beyond what sums of float32 lose. Twice,
    since split sums leave something for the next call."""
    x, weight, bias = operands(case, dtype, device)
    expected = skinny_linear(x, weight, bias, case.gate)
    allowed = _SUMS * skinny_linear(x.abs(), weight.abs())
    if case.gate is not None:  # neither activation grows faster than 1.2 times its gate
        of_gate, of_up = allowed.chunk(2, dim=-1)
        gate, up = skinny_linear(x, weight, bias).abs().chunk(2, dim=-1)
        allowed = 1.2 * (of_gate * up + of_up * gate)
    worst = 0.0
    for _ in range(2):
        out = torch.full((case.rows, case.columns), float("nan"), dtype=dtype, device=device)
        form(x, weight, bias, out, case.gate)
        beyond = ((out.double() - expected).abs() - allowed).clamp(min=0) / expected.abs().clamp(min=2**-10)
        worst = max(worst, float(beyond.nan_to_num(nan=float("inf")).max()))
    return worst
