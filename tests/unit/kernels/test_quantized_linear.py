"""quantized_linear and its packed weights against the plain product in float64."""

import pytest
import torch

from octavo_kernels.quantized_linear import GROUP, pack
from octavo_kernels.quantized_linear.cases import SHAPES, random_groups
from octavo_kernels.quantized_linear.cpu import quantized_linear
from octavo_kernels.quantized_linear.reference import unpack


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("out", "width"), SHAPES)
def test_products_are_those_of_the_weight(bits: int, out: int, width: int) -> None:
    values, scales, minimums = random_groups(bits, out, width)
    exact = values.double().unflatten(1, (-1, GROUP)) * scales.double().unsqueeze(-1)
    if minimums is not None:
        exact = exact + minimums.double().unsqueeze(-1)
    packed = pack(values, scales, minimums)
    assert (packed.bits, packed.out_features, packed.in_features) == (bits, out, width)
    dense = exact.flatten(1)
    torch.testing.assert_close(unpack(packed).double(), dense, rtol=1e-6, atol=1e-6)
    for rows in range(1, 6):
        x = torch.randn(rows, width, generator=torch.Generator().manual_seed(rows))
        product = x.double() @ dense.T
        found = quantized_linear(x, packed)
        assert found.dtype == torch.float32
        rounded = x.double().abs().amax(dim=1, keepdim=True) / 32767 / 2  # of each element at most so much is lost
        assert ((found.double() - product).abs() <= 1.1 * rounded * dense.abs().sum(dim=1) + 1e-5).all()


@pytest.mark.parametrize(("out", "width"), SHAPES)
def test_a_bias_is_added_to_each_row(out: int, width: int) -> None:
    packed, bias = pack(*random_groups(4, out, width)), torch.randn(out, generator=torch.Generator().manual_seed(0))
    x = torch.randn(3, width, generator=torch.Generator().manual_seed(1))
    assert quantized_linear(x, packed, bias).equal(quantized_linear(x, packed) + bias)


def test_extreme_rows_stay_what_they_are() -> None:
    packed = pack(*random_groups(4, 32, 64))
    x = torch.zeros(3, 64)
    x[1] = 1e30
    x[2, 5] = torch.nan
    found = quantized_linear(x, packed)
    assert found[0].eq(0).all()
    torch.testing.assert_close(found[1], 1e30 * unpack(packed).sum(1), rtol=1e-4, atol=1e26)
    assert found[2].isnan().all()
