"""quantized_linear and its packed weights against the plain product in float64."""

import pytest
import torch

from octavo_kernels.quantized_linear import TILE, dequantized, pack
from octavo_kernels.quantized_linear.cases import FORMATS, NESTED_SHAPES, SHAPES, random_format, random_groups
from octavo_kernels.quantized_linear.cpu import quantized_linear, unpacked_rows
from octavo_kernels.quantized_linear.formats import SUPER
from octavo_kernels.quantized_linear.reference import unpack

CASES = [(name, *shape) for name, form in FORMATS.items() for shape in (NESTED_SHAPES if form.is_nested else SHAPES)]


def dense(values, scales, minimums, form, factors) -> torch.Tensor:
    """The weight in float64, from what is packed."""
    numbers = values.double() - form.offset
    if form.numbers is not None:
        numbers = torch.tensor(form.numbers).double()[values.long()]

    def each_column(factor, of_factor):
        wide = factor.double().repeat_interleave(form.group, dim=1)
        return wide if of_factor is None else wide * of_factor.double().repeat_interleave(SUPER, dim=1)

    found = numbers * each_column(scales, factors and factors.scales)
    return found if minimums is None else found + each_column(minimums, factors and factors.minimums)


@pytest.mark.parametrize(("name", "out", "width"), CASES)
def test_products_are_those_of_the_weight(name: str, out: int, width: int) -> None:
    groups = random_format(FORMATS[name], out, width)
    exact, packed = dense(*groups), pack(*groups)
    assert (packed.format, packed.out_features, packed.in_features) == (FORMATS[name], out, width)
    torch.testing.assert_close(unpack(packed).double(), exact, rtol=1e-6, atol=1e-4)
    for rows in (1, 2, 3, 7, 16, 29):
        x = torch.randn(rows, width, generator=torch.Generator().manual_seed(rows))
        product = x.double() @ exact.T
        room = torch.full((rows, -(-out // TILE) * TILE + 5), torch.nan)
        found = quantized_linear(x, packed, out=room[:, 3:])
        assert found.dtype == torch.float32
        assert quantized_linear(x, packed).equal(found)
        rounded = x.double().abs().amax(dim=1, keepdim=True) / 32767 / 2  # of each element at most so much is lost
        assert ((found.double() - product).abs() <= 1.1 * rounded * exact.abs().sum(dim=1) + 1e-5).all()


@pytest.mark.parametrize(("name", "out", "width"), CASES)
def test_rows_are_unpacked_to_the_last_bit(name: str, out: int, width: int) -> None:
    packed = pack(*random_format(FORMATS[name], out, width))
    rows = torch.tensor([out - 1, 0, out // 2, 0])
    torch.testing.assert_close(unpacked_rows(packed, rows), unpack(packed)[rows], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(("out", "width"), SHAPES)
def test_a_bias_is_added_to_each_row(out: int, width: int) -> None:
    packed, bias = pack(*random_groups(4, out, width)), torch.randn(out, generator=torch.Generator().manual_seed(0))
    x = torch.randn(3, width, generator=torch.Generator().manual_seed(1))
    assert quantized_linear(x, packed, bias).equal(quantized_linear(x, packed) + bias)


@pytest.mark.parametrize("bits", [4, 8])
def test_extreme_rows_stay_what_they_are(bits: int) -> None:
    packed = pack(*random_groups(bits, 32, 64))
    x = torch.zeros(3, 64)
    x[1] = 1e30
    x[2, 5] = torch.nan
    found = quantized_linear(x, packed)
    assert found[0].eq(0).all()
    torch.testing.assert_close(found[1], 1e30 * unpack(packed).sum(1), rtol=1e-4, atol=1e28)
    assert found[2].isnan().all()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_dequantised_weights_are_rounded_once(name: str, dtype: torch.dtype) -> None:
    values, scales, minimums, form, factors = random_format(FORMATS[name], 5, 512)
    exact = dense(values, scales, minimums, form, factors)
    if factors is not None:
        scales = scales * factors.scales.repeat_interleave(form.groups, dim=1)
        if minimums is not None and factors.minimums is not None:
            minimums = minimums * factors.minimums.repeat_interleave(form.groups, dim=1)
    found = dequantized(values, scales, minimums, form, dtype)
    torch.testing.assert_close(found, exact.to(dtype), rtol=2**-7 if dtype == torch.bfloat16 else 2**-10, atol=1e-3)
