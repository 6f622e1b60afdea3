"""Projections in each form, against float32 arithmetic on the same weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo_runtime.layers.linear import (
    FEW_ROWS,
    MANY_ROWS,
    WIDENED_ROWS,
    DenseLinear,
    PrepackedLinear,
    build_linear,
    pack_linear,
    padded_rows,
    prepacks,
)
from octavo_runtime.layers.lm_head import FEW_WIDE_ROWS, build_lm_head
from octavo_runtime.quantization.quantized_matrix import QuantizedMatrix, concatenate

CPU = torch.device("cpu")
# bfloat16 keeps 8 bits: weights, inputs and results are rounded to 2**-9 of themselves.
RELATIVE_ERROR = 1e-2

has_products = prepacks(torch.bfloat16)
prepacked = pytest.mark.skipif(not has_products, reason="this CPU has no bfloat16 products")


def random_groups(rows: int, columns: int, seed: int = 0) -> QuantizedMatrix:
    generator = torch.Generator().manual_seed(seed)
    return QuantizedMatrix(
        torch.randint(0, 16, (rows, columns), generator=generator, dtype=torch.uint8),
        (torch.rand(rows, columns // 32, generator=generator) * 0.02 + 0.001).half().float(),
        (-torch.rand(rows, columns // 32, generator=generator) * 0.1).half().float(),
    )


def random_8_bit_groups(rows: int, columns: int) -> QuantizedMatrix:
    generator = torch.Generator().manual_seed(4)
    values = torch.randint(-128, 128, (rows, columns), generator=generator, dtype=torch.int8)
    return QuantizedMatrix(values, (torch.rand(rows, columns // 32, generator=generator) * 0.002).half().float(), None)


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    assert actual.shape == expected.shape
    return float((actual.float() - expected).abs().max() / expected.abs().max())


def test_8_bit_values_are_scale_times_value():
    groups = random_8_bit_groups(3, 64)
    expected = groups.values.float() * groups.scales.repeat_interleave(32, dim=1)
    assert groups.dequantize().equal(expected)
    assert groups.rows(torch.tensor([2, 0])).dequantize().equal(expected[[2, 0]])
    assert concatenate([groups, groups]).dequantize().equal(torch.cat((expected, expected)))


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


@prepacked
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


@prepacked
@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_many_rows_are_float32s_where_a_cpu_has_no_bfloat16(native, with_bias, monkeypatch):
    monkeypatch.setattr("octavo_runtime.layers.linear._multiplies_bfloat16", lambda: native)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(70, 50, generator=generator).bfloat16()
    bias = torch.randn(70, generator=generator).bfloat16() if with_bias else None
    x = torch.randn(MANY_ROWS, 50, generator=generator).bfloat16()
    expected = torch.nn.functional.linear(x.float(), weight.float(), None if bias is None else bias.float())
    result = PrepackedLinear(weight, bias)(x)
    assert result.dtype == torch.bfloat16
    assert relative_error(result, expected) <= RELATIVE_ERROR
    if not native:
        assert result.equal(expected.bfloat16())


def test_float32_computes_with_the_dequantized_weight_itself():
    groups = random_groups(16, 64)
    projection = build_linear(groups, None, CPU, torch.float32)
    assert isinstance(projection, DenseLinear)
    assert projection.weight.equal(groups.dequantize())
    assert projection.num_bytes == 16 * 64 * 4


@pytest.mark.skipif(has_products, reason="this CPU has bfloat16 products")
@pytest.mark.parametrize("rows", [1, 70])
def test_a_cpu_without_products_of_16_bits_computes_with_packed_weights(rows: int):
    groups, bias = random_groups(40, 64), torch.randn(40).bfloat16()
    projection = build_linear(groups, bias, CPU, torch.bfloat16)
    assert projection.num_bytes == pack_linear(groups, bias).num_bytes
    x = torch.randn(rows, 64).bfloat16()
    result = projection(x)
    assert result.dtype == torch.bfloat16
    assert relative_error(result, x.float() @ groups.dequantize().T + bias.float()) < RELATIVE_ERROR


@pytest.mark.parametrize("rows", [WIDENED_ROWS - 1, WIDENED_ROWS])
def test_many_rows_of_16_bits_may_be_computed_in_float32(rows: int):
    weight, bias, x = torch.randn(40, 64).bfloat16(), torch.randn(40).bfloat16(), torch.randn(rows, 64).bfloat16()
    projection, out = DenseLinear(weight, bias, widens=True), torch.full((rows, 40), torch.nan, dtype=torch.bfloat16)
    expected = x.float() @ weight.float().T + bias.float()
    assert projection(x, out).equal(projection(x))
    assert relative_error(out, expected) < RELATIVE_ERROR
    if rows == WIDENED_ROWS:
        assert out.equal(expected.bfloat16()), "rounded once"


def test_groups_of_both_kinds_are_one_projection_of_two_parts():
    four, eight = random_groups(40, 64), random_8_bit_groups(16, 64)
    stored, bias = concatenate([four, eight, four]), torch.randn(96)
    x = torch.randn(3, 64)
    packed = pack_linear(stored, bias)
    expected = x.double() @ stored.dequantize().double().T + bias.double()
    torch.testing.assert_close(packed(x).double(), expected, rtol=1e-3, atol=1e-3)
    assert packed.num_bytes == sum(pack_linear(part).num_bytes for part in (four, eight, four)) + 96 * 4


def test_few_numbers_of_rows_serve_all_batches():
    """oneDNN keeps a kernel for each: a crowd of requests of many lengths once took 600 MB that way."""
    counts = [padded_rows(rows) for rows in range(1, 513)]
    assert len(set(counts)) <= 48
    assert all(rows <= count <= max(rows + 3, rows * 1.5) for rows, count in enumerate(counts, start=1))
    assert padded_rows(8192) == 8192


@prepacked
def test_padding_changes_no_row():
    weight = torch.randn(64, 96).bfloat16()
    x = torch.randn(40, 96).bfloat16()
    whole = PrepackedLinear(weight)(x)
    for rows in (17, 18, 33, 37):
        part = PrepackedLinear(weight)(x[:rows])
        assert part.shape == (rows, 64)
        assert relative_error(part, whole[:rows].float()) <= RELATIVE_ERROR


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("bits", [4, 8, 16])
def test_a_head_keeps_words_apart_that_16_bits_would_not(bits: int, tied: bool, many: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    stored = {4: random_groups(300, 64), 8: random_8_bit_groups(300, 64)}.get(bits)
    if stored is None:
        stored = torch.randn(300, 64, generator=generator).bfloat16()
    dense = stored if isinstance(stored, torch.Tensor) else stored.dequantize()
    embedding = dense.bfloat16() if tied else None
    head = build_lm_head(stored, embedding, CPU, torch.bfloat16)
    x = 30 * torch.randn(FEW_ROWS + 1, 64, generator=generator).bfloat16()
    exact = x.double() @ dense.double().T
    rows = (FEW_ROWS if bits < 16 else FEW_WIDE_ROWS if tied else 0) if many else 1
    if bits < 16 or tied:
        scores = head(x[:rows])
        assert scores.dtype == torch.float32
        assert (scores.double() - exact[:rows]).abs().max() < 5e-3
        assert (exact.bfloat16().double() - exact).abs().max() > 0.1
    for several in (1, FEW_WIDE_ROWS + 1, FEW_ROWS + 1):  # hidden states come in both types
        for states in (x[:several], x[:several].float()):
            assert relative_error(head(states), exact[:several].float()) < RELATIVE_ERROR


def test_a_heads_bytes_count_both_forms():
    head = build_lm_head(random_8_bit_groups(32, 64), torch.zeros(32, 64).bfloat16(), CPU, torch.bfloat16)
    packed = 32 * 64 + 32 * 2 * 2  # a byte each, and a scale of 16 bits for each group
    assert head.num_bytes == packed + 32 * 64 * 2 * has_products
    assert build_lm_head(random_groups(32, 64), None, CPU, torch.float32).num_bytes == 32 * 64 * 4
