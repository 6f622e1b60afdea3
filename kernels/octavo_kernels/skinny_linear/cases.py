"""The shapes that skinny_linear is checked on, and what may be lost."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from octavo_kernels.begun_norm import BegunNorm
from octavo_kernels.comparison import largest_error
from octavo_kernels.gate_mul import GatedActivation
from octavo_kernels.skinny_linear.reference import ended, skinny_add_linear, skinny_linear, skinny_rotary_write_kv

EPS = 1e-5


@dataclass(frozen=True)
class Case:
    """normed: of x the norm is begun."""

    name: str
    rows: int
    width: int
    columns: int
    bias: bool = False
    gate: GatedActivation | None = None
    normed: bool = False

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
    Case("8B shape, normed, query, key and value, 8 rows", 8, 4096, 6144, normed=True),
    Case("8B shape, normed, gated, one row", 1, 4096, 14336, gate="silu", normed=True),
    Case("8B shape, normed, gated, 13 rows", 13, 4096, 14336, gate="silu", normed=True),
    Case("8B shape, normed, gated, 32 rows", 32, 4096, 14336, gate="silu", normed=True),
    Case("8B shape, normed, gated, 64 rows", 64, 4096, 14336, gate="silu", normed=True),
    Case("70B shape, normed, split sums, a bias", 40, 8192, 1536, bias=True, normed=True),
    Case("less than a tile, normed", 2, 40, 24, normed=True),
)
TOLERANCES = {torch.bfloat16: 2**-8, torch.float16: 2**-11}  # of the result, beside what sums of float32 lose
_SUMS = 2**-16  # of the sum of the products' magnitudes


def operands(case: Case, dtype: torch.dtype, device: str) -> tuple[Tensor | BegunNorm, Tensor, Tensor | None]:
    """x, weight and bias."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(*shape, generator=generator) * scale).to(device, dtype)

    columns = case.columns if case.gate is None else 2 * case.columns
    x, weight = random(case.rows, case.width), random(columns, case.width, scale=case.width**-0.5)
    bias = random(columns) if case.bias else None
    if not case.normed:
        return x, weight, bias
    # Rows of padding, which are no result's, are not a number.
    squares = torch.full((-(-case.width // 64), max(8, 1 << (case.rows - 1).bit_length())), float("nan"))
    squares[:, : case.rows] = 64 * torch.rand(len(squares), case.rows, generator=generator)
    return BegunNorm(x, squares.to(device), EPS), weight, bias


def error(form: Callable[..., Tensor], case: Case, dtype: torch.dtype, device: str) -> float:
    """Largest error of `form` against the oracle, as a share of the result, beyond what sums of float32 lose. Twice,
    since split sums leave something for the next call."""
    x, weight, bias = operands(case, dtype, device)
    expected = skinny_linear(x, weight, bias, case.gate)
    allowed = _SUMS * skinny_linear(ended(x).abs(), weight.abs())
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


@dataclass(frozen=True)
class AddCase:
    """Of skinny_add_linear."""

    name: str
    rows: int
    width: int
    columns: int
    offset: float = 0.0

    def __str__(self) -> str:
        return self.name


ADD_CASES = (
    AddCase("8B shape, output, one row", 1, 4096, 4096),
    AddCase("8B shape, output, 11 rows", 11, 4096, 4096),
    AddCase("8B shape, output, 32 rows", 32, 4096, 4096),
    AddCase("8B shape, output, 64 rows", 64, 4096, 4096),
    AddCase("8B shape, down, 8 rows", 8, 14336, 4096),
    AddCase("8B shape, down, 50 rows", 50, 14336, 4096),
    AddCase("Gemma shape, down", 3, 16384, 2048, offset=1.0),
    AddCase("70B shape, output", 5, 512, 8192),
    AddCase("more tiles than processors", 6, 512, 9216),
    AddCase("odd columns", 9, 2048, 1001),
    AddCase("less than a tile", 2, 40, 24),
)


def error_of_sums(
    form: Callable[..., BegunNorm],
    case: AddCase,
    device: str,
    oracle: Callable[..., BegunNorm] = skinny_add_linear,
) -> float:
    """Largest error of `form` against the oracle in bfloat16, over the stream, and what is begun of its norm. Twice,
    since split sums leave something for the next call."""
    generator = torch.Generator().manual_seed(0)
    shapes = (case.rows, case.width), (case.columns, case.width), (case.rows, case.columns), (case.columns,)
    scales = 1.0, case.width**-0.5, 1.0, 1.0
    x, weight, before, norm_weight = (
        (torch.randn(shape, generator=generator) * scale).to(device, torch.bfloat16)
        for shape, scale in zip(shapes, scales, strict=True)
    )
    worst = 0.0
    for _ in range(2):
        results = []
        for each in (form, oracle):
            stream = before.clone()
            begun = each(x, weight, stream, norm_weight, EPS, case.offset)
            results.append((stream, begun.scaled, begun.squares.sum(0)[: case.rows] / case.columns))
        worst = max(worst, *(largest_error(*both) for both in zip(*results, strict=True)))
    return worst


@dataclass(frozen=True)
class HeadsCase:
    """Of skinny_rotary_write_kv. The first `padding` rows have the slot -1. normed: see Case."""

    name: str
    rows: int
    width: int
    q_heads: int
    kv_heads: int
    head_dim: int
    bias: bool = False
    padding: int = 0
    normed: bool = False

    def __str__(self) -> str:
        return self.name


HEADS_CASES = (
    HeadsCase("8B shape, one row", 1, 4096, 32, 8, 128),
    HeadsCase("8B shape, 11 rows", 11, 4096, 32, 8, 128, padding=2),
    HeadsCase("8B shape, 32 rows", 32, 4096, 32, 8, 128),
    HeadsCase("8B shape, 61 rows", 61, 4096, 32, 8, 128, padding=3),
    HeadsCase("Qwen 2.5 shape, a bias", 5, 3584, 28, 4, 128, bias=True),
    HeadsCase("Llama 3.2 1B shape, split sums", 7, 2048, 32, 8, 64),
    HeadsCase("Gemma shape", 3, 2304, 8, 4, 256),
    HeadsCase("70B shape, wide tiles", 50, 512, 64, 8, 128, bias=True),
    HeadsCase("wide tiles of whole heads", 4, 256, 128, 8, 64),
    HeadsCase("8B shape, normed, one row", 1, 4096, 32, 8, 128, normed=True),
    HeadsCase("8B shape, normed, 32 rows", 32, 4096, 32, 8, 128, normed=True),
    HeadsCase("Llama 3.2 1B shape, normed, split sums", 7, 2048, 32, 8, 64, normed=True),
)
# A product that is rounded to the other side, and then turned.
HEADS_TOLERANCES = {torch.bfloat16: 1.6e-2, torch.float16: 2e-3}


def error_of_heads(
    form: Callable[..., None],
    case: HeadsCase,
    dtype: torch.dtype,
    device: str,
    oracle: Callable[..., None] = skinny_rotary_write_kv,
) -> float:
    """Largest error of `form` against the oracle, over queries and both caches. Twice, as `error`."""
    heads = case.q_heads + 2 * case.kv_heads
    product = Case(case.name, case.rows, case.width, heads * case.head_dim, case.bias, normed=case.normed)
    x, weight, bias = operands(product, dtype, device)
    generator = torch.Generator().manual_seed(1)
    angles = torch.rand(64, case.head_dim // 2, generator=generator) * 6.3
    cos_sin = torch.cat((angles.cos(), angles.sin()), dim=-1).to(device)
    positions = torch.randint(64, (case.rows,), generator=generator).to(device)
    slots = torch.randperm(5 * 16, generator=generator)[: case.rows]
    slots[: case.padding] = -1
    worst = 0.0
    for _ in range(2):
        results = []
        for each in (form, oracle):
            q = torch.full((case.rows, case.q_heads, case.head_dim), float("nan"), dtype=dtype, device=device)
            cache = torch.zeros(2, 5, 16, case.kv_heads, case.head_dim, dtype=dtype, device=device)
            each(x, weight, bias, q, positions, cos_sin, cache[0], cache[1], slots.to(device))
            results.append(torch.cat((q.flatten(), cache.flatten())))
        worst = max(worst, largest_error(*results))
    return worst
