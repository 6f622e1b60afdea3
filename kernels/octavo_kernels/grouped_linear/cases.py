"""The cases that every form of grouped_linear is checked on, and random weights in groups."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from octavo_kernels.begun_norm import BegunNorm
from octavo_kernels.comparison import largest_error
from octavo_kernels.grouped_linear import GroupedWeights, pack_halves, pack_upper, reference
from octavo_kernels.grouped_linear.interleaving import interleave
from octavo_kernels.quantized_linear.formats import SUPER, Format
from octavo_kernels.skinny_linear import cases as skinny_cases
from octavo_kernels.skinny_linear.cases import AddCase, HeadsCase
from octavo_kernels.skinny_linear.cases import Case as EndedCase

TOLERANCES = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
Kind = Literal[
    "int4", "int8", "int8 with zeros", "fp8", "codes", "codes of rows", "q4_0", "q4_1", "q5_1", "q4_k", "q5_k", "q6_k"
]
BLOCKS = {
    "q4_0": Format(4),
    "q4_1": Format(4, has_minimum=True),
    "q5_1": Format(5, has_minimum=True),
    "q4_k": Format(4, is_nested=True, has_minimum=True),
    "q5_k": Format(5, is_nested=True, has_minimum=True),
    "q6_k": Format(6, 16, is_nested=True),
}


@dataclass(frozen=True)
class Case:
    """group: rows and columns that share a scale; 0: all columns. interleaved: as Hopper GPUs have GGUF's types."""

    name: str
    kind: Kind
    rows: int
    width: int
    columns: int
    group: tuple[int, int] = (1, 32)
    bias: bool = False
    interleaved: bool = False


TINY_CASES = (
    Case("int4", "int4", 3, 64, 40),
    Case("int4, few columns, a bias", "int4", 1, 96, 8, bias=True),
    Case("int4, groups of 128, split sums", "int4", 2, 1024, 24, (1, 128)),
    Case("int4, a group across tiles", "int4", 2, 480, 24, (1, 96)),
    Case("int4, a group of all", "int4", 17, 80, 24, (1, 0)),
    Case("int8", "int8", 3, 64, 40, (1, 0), bias=True),
    Case("int8 with zeros", "int8 with zeros", 5, 96, 20),
    Case("fp8", "fp8", 3, 64, 40, (1, 0)),
    Case("fp8, ragged blocks", "fp8", 2, 200, 70, (64, 128)),
    Case("codes", "codes", 3, 64, 40, (1, 16)),
    Case("codes of rows", "codes of rows", 20, 64, 40, (1, 0)),
    Case("int4, many rows", "int4", 130, 288, 40, bias=True),
    Case("fp8, ragged blocks, many rows", "fp8", 130, 200, 70, (64, 128)),
    Case("codes of rows, many rows", "codes of rows", 129, 64, 40, (1, 0)),
    Case("q4_0", "q4_0", 3, 96, 40),
    Case("q4_1", "q4_1", 3, 96, 24, bias=True),
    Case("q5_1", "q5_1", 17, 96, 40),
    Case("q4_k, split sums", "q4_k", 2, 1024, 24),
    Case("q5_k", "q5_k", 5, 256, 40),
    Case("q6_k", "q6_k", 3, 512, 40, bias=True),
    Case("q4_k, many rows", "q4_k", 130, 256, 40),
    Case("q6_k, many rows", "q6_k", 130, 256, 40),
    Case("int4, interleaved, a bias", "int4", 3, 384, 40, (1, 64), bias=True, interleaved=True),
    Case("q8_0, interleaved", "int8", 3, 384, 40, interleaved=True),
    Case("q5_1, interleaved", "q5_1", 3, 256, 40, interleaved=True),
    Case("q6_k, interleaved", "q6_k", 3, 512, 40, interleaved=True),
)
# What the form for Hopper computes: up to 128 rows, in groups of half a stage.
HOPPER_CASES = (
    Case("output of 8B, int4, 3 rows, a bias", "int4", 3, 4096, 4096, (1, 128), bias=True),
    Case("gate and up of 8B, int4, 12 rows", "int4", 12, 4096, 28672, (1, 128)),
    Case("down of 8B, int4, 33 rows", "int4", 33, 14336, 4096, (1, 128)),
    Case("down of 8B, int8, 128 rows", "int8", 128, 14336, 4096, (1, 0)),
    Case("query, key and value of 8B, int8 with zeros, 20 rows", "int8 with zeros", 20, 4096, 6144, (1, 256)),
    Case("gate and up of 8B, fp8, one row", "fp8", 1, 4096, 28672, (1, 0)),
    Case("query, key and value of 8B, fp8, 70 rows, a bias", "fp8", 70, 4096, 6144, (1, 0), bias=True),
    Case("down of 8B, fp8 blocks, 40 rows", "fp8", 40, 14336, 4096, (128, 128)),
    Case("odd columns, a width that splits unevenly", "int4", 5, 1120, 1001, (1, 0)),
    Case("odd columns, ragged groups", "int4", 9, 1376, 333, (1, 128)),
    Case("less than a tile", "int8", 2, 96, 24, (1, 0), bias=True),
)
# What the form for many rows computes, and with a gate: of twice as many columns.
MANY_ROWS_CASES = (
    Case("query, key and value of 8B, int4, 65 rows, a bias", "int4", 65, 4096, 6144, (1, 128), bias=True),
    Case("down of 8B, int8, 256 rows, a bias", "int8", 256, 14336, 4096, (1, 0), bias=True),
    Case("output of 8B, fp8 blocks, 130 rows", "fp8", 130, 4096, 4096, (128, 128)),
    Case("keys of 8B, fp8, 100 rows", "fp8", 100, 4096, 1024, (1, 0)),
    Case("many rows, int4, odd columns, a width that splits unevenly", "int4", 150, 1120, 1001, (1, 0)),
    Case("many rows, int4, odd columns, ragged groups of 32", "int4", 70, 1376, 333, bias=True),
    Case("many rows, less than a tile", "int8", 66, 96, 24, (1, 0), bias=True),
)
MANY_ROWS_GATED_CASES = (
    Case("many rows, int4, gated", "int4", 65, 4096, 2 * 14336, (1, 128)),
    Case("many rows, int8, gated, odd columns, a bias", "int8", 600, 1376, 2 * 1032, (1, 0), bias=True),
    Case("many rows, fp8 blocks, gated", "fp8", 200, 4096, 2 * 1024, (128, 128)),
)
# What the form for one row computes.
ONE_ROW_CASES = tuple(
    Case(f"one row, {name}", "int4", 1, width, columns, (1, 128), bias=columns % 32 != 0)
    for name, width, columns in (
        ("output of 8B", 4096, 4096),
        ("gate and up of 8B", 4096, 28672),
        ("down of 8B", 14336, 4096),
        ("odd columns, an uneven width", 1408, 333),
        ("less than a tile", 128, 9),
    )
)
ONE_ROW_ADD_CASES = (
    AddCase("8B shape, output, one row", 1, 4096, 4096),
    AddCase("8B shape, down, one row, split sums", 1, 14336, 4096),
    AddCase("Gemma shape, down, one row", 1, 16384, 2048, offset=1.0),
    AddCase("one row, odd columns, an uneven width", 1, 1152, 1001),
    AddCase("one row, less than a tile", 1, 128, 9),
)
ONE_ROW_HEADS_CASES = (
    HeadsCase("8B shape, one row", 1, 4096, 32, 8, 128),
    HeadsCase("8B shape, one row, normed", 1, 4096, 32, 8, 128, normed=True),
    HeadsCase("Qwen 2.5 shape, one row, a bias", 1, 3584, 28, 4, 128, bias=True),
    HeadsCase("Llama 3.2 1B shape, one row, normed", 1, 2048, 32, 8, 64, normed=True),
    HeadsCase("Gemma shape, one row", 1, 2304, 8, 4, 256),
    HeadsCase("70B shape, one row, normed, split sums, a bias", 1, 8192, 8, 2, 128, bias=True, normed=True),
    HeadsCase("a row of padding", 1, 512, 8, 4, 64, padding=1),
)
# Of which the activation, or the end of a norm, or both, are computed with the product.
ENDED_CASES = (
    EndedCase("8B shape, gated", 1, 4096, 14336, gate="silu"),
    EndedCase("8B shape, normed, query, key and value", 1, 4096, 6144, normed=True),
    EndedCase("8B shape, normed, gated", 1, 4096, 14336, gate="silu", normed=True),
    EndedCase("70B shape, normed, split sums, a bias", 1, 8192, 1536, bias=True, normed=True),
    EndedCase("70B shape, normed, split sums, gated", 1, 8192, 1000, gate="silu", normed=True),
    EndedCase("odd columns, an uneven width, gated, a bias", 1, 1152, 1035, bias=True, gate="silu"),
    EndedCase("less than a tile, normed, gated", 1, 128, 9, bias=True, gate="gelu", normed=True),
)
# What the form for interleaved weights computes: up to 64 rows.
INTERLEAVED_CASES = tuple(
    replace(case, interleaved=True)
    for case in (
        Case("down of 8B, q4_k, one row", "q4_k", 1, 14336, 4096),
        Case("8B shape, keys, q4_k, 50 rows, a bias", "q4_k", 50, 4096, 1024, bias=True),
        Case("8B shape, keys, q5_k, 9 rows", "q5_k", 9, 4096, 1024),
        Case("8B shape, output, q6_k, 3 rows", "q6_k", 3, 4096, 4096),
        Case("down of 8B, q6_k, 64 rows", "q6_k", 64, 14336, 4096),
        Case("8B shape, gate and up, q8_0, 2 rows", "int8", 2, 4096, 28672),
        Case("odd columns, int4 in groups of 64", "int4", 9, 1408, 333, (1, 64)),
        Case("less than a tile, q8_0", "int8", 2, 128, 24, bias=True),
        Case("int8 with zeros in groups of 64", "int8 with zeros", 9, 1408, 200, (1, 64)),
        Case("q4_0, 20 rows", "q4_0", 20, 1408, 200),
        Case("q4_1, one row", "q4_1", 1, 1408, 200, bias=True),
        Case("q5_1, 40 rows", "q5_1", 40, 1280, 200),
    )
)
CASES = (
    *TINY_CASES,
    Case("smollm2, down", "int4", 16, 1536, 576),
    Case("8B shape, output, one row", "int4", 1, 4096, 4096, (1, 128)),
    Case("down of 8B, 8 rows", "int4", 8, 14336, 4096, (1, 128)),
    Case("query, key and value of 8B, 64 rows", "int4", 64, 4096, 6144, (1, 128)),
    Case("8B shape, keys, 300 rows", "int4", 300, 4096, 1024, (1, 128)),
    Case("8B shape, int8", "int8", 4, 4096, 1024, (1, 0)),
    Case("8B shape, fp8 blocks", "fp8", 4, 4096, 1024, (128, 128)),
    Case("output of 8B, fp8 blocks, 200 rows", "fp8", 200, 4096, 4096, (128, 128)),
    Case("8B shape, codes", "codes", 4, 4096, 1024, (1, 64)),
    Case("8B shape, codes of rows", "codes of rows", 4, 4096, 1024, (1, 0)),
    Case("8B shape, q4_0", "q4_0", 4, 4096, 1024),
    Case("8B shape, q4_k", "q4_k", 4, 4096, 1024),
    Case("8B shape, q5_k, 40 rows", "q5_k", 40, 4096, 1024),
    Case("8B shape, q6_k", "q6_k", 1, 14336, 4096),
    Case("8B shape, q6_k, 200 rows", "q6_k", 200, 4096, 1024),
    Case("head of 80", "int4", 7, 1280, 2560),
    *HOPPER_CASES,
    *ONE_ROW_CASES,
    *INTERLEAVED_CASES,
)


def random_weights(case: Case, generator: torch.Generator) -> GroupedWeights:
    """On the CPU, with numbers of about width ** -0.5."""
    weight = _in_blocks(case, generator) if case.kind in BLOCKS else _in_groups(case, generator)
    return interleave(weight) if case.interleaved else weight


def _in_groups(case: Case, generator: torch.Generator) -> GroupedWeights:
    high, wide = case.group[0], case.group[1] or case.width
    groups = -(-case.columns // high), -(-case.width // wide)
    shape = case.columns, case.width
    spread = {"int4": 4.6, "int8": 74.0, "int8 with zeros": 74.0, "fp8": 1.0}.get(case.kind, 0.6)
    scales = (torch.rand(groups, generator=generator) + 0.5) / spread * case.width**-0.5
    zeros = codebook = None
    if case.kind == "fp8":
        values = torch.randn(shape, generator=generator).to(torch.float8_e4m3fn)
        return GroupedWeights(values, scales, (high, wide))
    if case.kind.startswith("int8"):
        values = torch.randint(-128, 128, shape, generator=generator, dtype=torch.int8)
    else:
        values = pack_halves(torch.randint(0, 16, shape, generator=generator, dtype=torch.uint8))
    if case.kind in ("int4", "int8 with zeros"):
        zeros = torch.randint(0, 16, groups, generator=generator).half()
    if case.kind.startswith("codes"):
        books = (case.columns, 16) if case.kind == "codes of rows" else (16,)
        codebook = (torch.rand(books, generator=generator) * 2 - 1).half()
    return GroupedWeights(values, scales.half(), (high, wide), zeros, codebook)


def error(form: Callable[..., Tensor], case: Case, dtype: torch.dtype, device: str) -> float:
    """Largest error of `form` against the oracle."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(case.rows, case.width, generator=generator).to(device, dtype)
    weight = random_weights(case, generator).to(device)
    bias = torch.randn(case.columns, generator=generator).to(device, dtype) if case.bias else None
    out = torch.full((case.rows, case.columns), torch.nan, dtype=dtype, device=device)
    form(x, weight, bias, out)
    return largest_error(out, reference.grouped_linear(x, weight, bias))


def error_of_gated(form: Callable[..., Tensor], case: Case, dtype: torch.dtype, device: str) -> float:
    """Largest error of `form` with a gate against the oracle."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(case.rows, case.width, generator=generator).to(device, dtype)
    weight = random_weights(case, generator).to(device)
    bias = torch.randn(case.columns, generator=generator).to(device, dtype) if case.bias else None
    out = torch.full((case.rows, case.columns // 2), torch.nan, dtype=dtype, device=device)
    form(x, weight, bias, out, "silu")
    return largest_error(out, reference.grouped_linear(x, weight, bias, gate="silu"))


def error_of_ended(
    form: Callable[..., Tensor], case: EndedCase, dtype: torch.dtype, device: str, has_zeros: bool
) -> float:
    """Largest error of a form of grouped_linear against the oracle, with a gate, or of rows whose norm is begun."""
    x, dense, bias = skinny_cases.operands(case, dtype, device)
    weight = random_weights(_product(case, len(dense)), torch.Generator().manual_seed(0)).to(device)
    weight = weight if has_zeros else replace(weight, zeros=None)
    out = torch.full((case.rows, case.columns), torch.nan, dtype=dtype, device=device)
    form(x, weight, bias, out, case.gate)
    return largest_error(out, reference.grouped_linear(x, weight, bias, gate=case.gate))


def error_of_sums(form: Callable[..., BegunNorm], case: AddCase, device: str) -> float:
    """Largest error of a form of grouped_add_linear against the oracle, over the stream, and what is begun of its
    norm."""
    weight = random_weights(_product(case, case.columns), torch.Generator().manual_seed(0)).to(device)

    def of_weight(each: Callable[..., BegunNorm]) -> Callable[..., BegunNorm]:
        return lambda x, _, *others: each(x, weight, *others)

    return skinny_cases.error_of_sums(of_weight(form), case, device, of_weight(reference.grouped_add_linear))


def error_of_heads(form: Callable[..., None], case: HeadsCase, dtype: torch.dtype, device: str) -> float:
    """Largest error of a form of grouped_rotary_write_kv against the oracle, over queries and both caches."""
    columns = (case.q_heads + 2 * case.kv_heads) * case.head_dim
    weight = random_weights(_product(case, columns), torch.Generator().manual_seed(0)).to(device)

    def of_weight(each: Callable[..., None]) -> Callable[..., None]:
        return lambda x, _, *others: each(x, weight, *others)

    oracle = of_weight(reference.grouped_rotary_write_kv)
    return skinny_cases.error_of_heads(of_weight(form), case, dtype, device, oracle)


def _product(case: EndedCase | AddCase | HeadsCase, columns: int) -> Case:
    """What multiplies in it, by a weight of so many rows."""
    return Case(case.name, "int4", case.rows, case.width, columns, (1, 128))


def _in_blocks(case: Case, generator: torch.Generator) -> GroupedWeights:
    """As GGUF's types have them."""
    kind, (rows, columns) = BLOCKS[case.kind], (case.columns, case.width)
    values = torch.randint(0, 2**kind.bits, (rows, columns), generator=generator, dtype=torch.uint8)
    size = kind.group
    groups = columns // size
    # Values from 0 on are larger than those on both sides of it, nested scales about 37.
    spread = 2**kind.bits / (1.4 if kind.has_minimum else 3.5) * (37 if kind.is_nested else 1)
    factors = None
    if kind.is_nested:
        scales = torch.randint(-64, 64, (rows, groups), generator=generator, dtype=torch.int8)
        minimums = torch.randint(0, 64, (rows, groups), generator=generator, dtype=torch.uint8)
        factors = torch.rand(rows, 1 + kind.has_minimum, columns // SUPER, generator=generator) + 0.5
        factors = (factors / torch.tensor([spread, -64.0])[: 1 + kind.has_minimum, None] * columns**-0.5).half()
    else:
        scales = ((torch.rand(rows, groups, generator=generator) + 0.5) / spread * columns**-0.5).half()
        minimums = (-torch.rand(rows, groups, generator=generator) / 2 * columns**-0.5).half()
    return GroupedWeights(
        pack_halves(values & 15),
        scales,
        (1, size),
        minimums=minimums if kind.has_minimum else None,
        factors=factors,
        upper=pack_upper(values, kind.bits) if kind.bits > 4 else None,
        offset=0 if kind.has_minimum else 2 ** (kind.bits - 1),
    )
