"""Projections in each form, against float32 arithmetic on the same weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo_runtime.quant.int4_groups import Int4Groups, concatenate
from octavo_runtime.quant.linear import (
    INT4_MAX_ROWS,
    DenseLinear,
    Int4Linear,
    PrepackedLinear,
    build_linear,
    build_tied_head,
    padded_rows,
)

CPU = torch.device("cpu")
# bfloat16 keeps 8 bits: weights, inputs and results are rounded to 2**-9 of themselves.
RELATIVE_ERROR = 1e-2

prepacks = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bfloat16 products"
)


def random_groups(rows: int, columns: int, seed: int = 0) -> Int4Groups:
    generator = torch.Generator().manual_seed(seed)
    return Int4Groups(
        torch.randint(0, 16, (rows, columns), generator=generator, dtype=torch.uint8),
        torch.rand(rows, columns // 32, generator=generator) * 0.02 + 0.001,
        -torch.rand(rows, columns // 32, generator=generator) * 0.1,
    )


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    assert actual.shape == expected.shape
    return float((actual.float() - expected).abs().max() / expected.abs().max())


def test_dequantized_values_are_scale_times_value_plus_minimum():
    groups = random_groups(3, 64)
    dense = groups.dequantize()
    for row, column in ((0, 0), (1, 31), (2, 32), (2, 63)):
        group = column // 32
        expected = groups.scales[row, group] * groups.values[row, column] + groups.minimums[row, group]
        assert dense[row, column] == pytest.approx(float(expected))


@settings(deadline=None)
@given(st.permutations(range(6)))
def test_rows_are_reordered_whole(order: list[int]):
    groups = random_groups(6, 64)
    assert groups.rows(torch.tensor(order)).dequantize().equal(groups.dequantize()[order])


def test_concatenated_parts_keep_their_rows():
    parts = [random_groups(16, 32, seed=1), random_groups(48, 32, seed=2)]
    whole = concatenate(parts)
    assert whole.shape == (64, 32)
    assert whole.dequantize().equal(torch.cat([part.dequantize() for part in parts]))


@prepacks
@pytest.mark.parametrize("with_bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("shape", [(16, 32), (192, 576), (576, 1536), (48, 96)], ids=str)
@pytest.mark.parametrize("rows", [0, 1, INT4_MAX_ROWS, INT4_MAX_ROWS + 1, 33])
def test_a_4_bit_projection_computes_the_same_for_few_rows_and_for_many(rows, shape, with_bias):
    groups = random_groups(*shape)
    generator = torch.Generator().manual_seed(3)
    bias = torch.randn(shape[0], generator=generator) if with_bias else None
    x = torch.randn(rows, shape[1], generator=generator).bfloat16()
    projection = build_linear(groups, bias, CPU, torch.bfloat16)
    assert isinstance(projection, Int4Linear)
    result = projection(x)
    assert result.dtype == torch.bfloat16
    expected = torch.nn.functional.linear(x.float(), groups.dequantize(), bias)
    if rows:
        assert relative_error(result, expected) < RELATIVE_ERROR
    else:
        assert result.shape == (0, shape[0])


@prepacks
@settings(max_examples=20, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 40), st.booleans())
def test_a_prepacked_projection_takes_any_shape(out_size: int, in_size: int, rows: int, with_bias: bool):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(out_size, in_size, generator=generator).bfloat16()
    bias = torch.randn(out_size, generator=generator).bfloat16() if with_bias else None
    x = torch.randn(rows, in_size, generator=generator).bfloat16()
    result = PrepackedLinear(weight, bias)(x)
    assert result.shape == (rows, out_size)
    if rows:
        expected = torch.nn.functional.linear(x.float(), weight.float(), None if bias is None else bias.float())
        assert float((result.float() - expected).abs().max()) <= RELATIVE_ERROR * max(1.0, float(expected.abs().max()))


def test_float32_computes_with_the_dequantized_weight_itself():
    groups = random_groups(16, 64)
    projection = build_linear(groups, None, CPU, torch.float32)
    assert isinstance(projection, DenseLinear)
    assert projection.weight.equal(groups.dequantize())
    assert projection.num_bytes == 16 * 64 * 4


@prepacks
def test_rows_that_fill_no_tile_fall_back_to_16_bits():
    projection = build_linear(random_groups(24, 64), None, CPU, torch.bfloat16)
    assert isinstance(projection, PrepackedLinear)
    assert projection.num_bytes == 24 * 64 * 2


@prepacks
def test_bytes_of_a_4_bit_projection_count_both_forms():
    projection = build_linear(random_groups(16, 64), torch.zeros(16), CPU, torch.bfloat16)
    packed = 16 * 64 // 2 + 16 * 2 * 2 * 2  # 4 bits a weight; a scale and a zero of 16 bits for each group
    assert projection.num_bytes == packed + 16 * 64 * 2 + 16 * 2


def test_few_numbers_of_rows_serve_all_batches():
    """oneDNN keeps a kernel for each: a crowd of requests of many lengths once took 600 MB that way."""
    counts = [padded_rows(rows) for rows in range(1, 513)]
    assert len(set(counts)) <= 48
    assert all(rows <= count <= max(rows + 3, rows * 1.5) for rows, count in enumerate(counts, start=1))
    assert padded_rows(8192) == 8192


@prepacks
def test_padding_changes_no_row():
    weight = torch.randn(64, 96).bfloat16()
    x = torch.randn(40, 96).bfloat16()
    whole = PrepackedLinear(weight)(x)
    for rows in (17, 18, 33, 37):
        part = PrepackedLinear(weight)(x[:rows])
        assert part.shape == (rows, 64)
        assert relative_error(part, whole[:rows].float()) <= RELATIVE_ERROR


@prepacks
@pytest.mark.parametrize("rows", [1, 4])
def test_a_tied_head_keeps_words_apart_that_16_bits_would_not(rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    embedding = torch.randn(300, 64, generator=generator).bfloat16()
    x = 3 * torch.randn(rows, 64, generator=generator).bfloat16()
    exact = x.double() @ embedding.double().T
    scores = build_tied_head(embedding)(x)
    assert scores.dtype == torch.float32
    assert (scores.double() - exact).abs().max() < 1e-4
    assert (exact.bfloat16().double() - exact).abs().max() > 1e-2
